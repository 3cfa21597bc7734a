"""Settings of the machine, of who trains, and of logs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from coterie.config.settings import Settings


class HardwareSettings(Settings):
    """Device, precision and threads."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="device to compute on")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="precision of networks; auto: bf16 autocast where the device computes in it natively, and not on "
        "features, embeddings and rows of tables; else fp32",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads; None: torch's number, and for the base fewer where others use the cores",
    )
    specialist_threads: int = Field(
        1,
        ge=1,
        le=1024,
        description="CPU threads that train one specialist; another number changes the last bits of the result; "
        "further cores train further specialists at the same time",
    )
    compile: bool = Field(
        False, description="compile networks by torch.compile: a slower start, sometimes faster training"
    )


class TrackSettings(Settings):
    """Logs of the training curves."""

    tensorboard: bool = Field(True, description="write event files for TensorBoard to RUN/logs")
    mlflow: str | None = Field(None, description="folder of an MLflow file store to log to; None: not logged to MLflow")
    client: Literal["wandb", "trackio"] | None = Field(
        None,
        description="log by this library, of wandb's interface, to its project coterie; its own environment says where",
    )


class EngineSettings(Settings):
    """Who trains specialists, seeds and controls. The results are the same with all values, which may change when a run
    goes on.
    """

    engine: Literal["local", "ray"] = Field(
        "local",
        description="who trains the specialists: local (this machine) | ray (a Ray cluster; needs the extra ray)",
    )
    address: str | None = Field(
        None, description="ray only: HOST:PORT of a running cluster; None: one is started on this machine"
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="local only: specialists trained at the same time; None: one per GPU, or as many as the cores "
        "allow",
    )

    @model_validator(mode="after")
    def _fits_the_engine(self) -> EngineSettings:
        if self.engine == "local" and self.address is not None:
            raise ValueError(f"address = {self.address!r} needs engine = 'ray'")
        if self.engine == "ray" and self.workers is not None:
            raise ValueError(f"workers = {self.workers} needs engine = 'local': a cluster knows its own")
        return self
