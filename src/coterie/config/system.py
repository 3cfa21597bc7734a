"""What a run runs on, who does its work, and where it is followed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from coterie.config.settings import Settings


class HardwareSettings(Settings):
    """What it runs on, and how fast."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="the device")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="bf16 autocast where processor or card computes in it natively"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; torch's choice if left out")
    specialist_threads: int = Field(
        1,
        ge=1,
        description="CPU threads that train one specialist. Another number gives other bits, so it is the same on "
        "every engine; several specialists at once use the other cores",
    )
    compile: bool = Field(False, description="torch.compile the network: slower to start, sometimes faster to train")


class TrackSettings(Settings):
    """Where a run is followed."""

    tensorboard: bool = Field(True, description="event files for TensorBoard in RUN/logs")
    mlflow: str | None = Field(None, description="folder of an MLflow file store to follow the run in, too")


class EngineSettings(Settings):
    """Who does the independent trainings. Nothing here changes a result, so a run may go on with other values."""

    engine: Literal["local", "ray"] = Field(
        "local", description="who trains the specialists: this machine, or a Ray cluster (extra: ray)"
    )
    address: str | None = Field(
        None, description="ray only: HOST:PORT of a running cluster; one is started on this machine if left out"
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="local only: specialists trained at once; if left out, one a GPU, or as many as the cores suffice "
        "for",
    )

    @model_validator(mode="after")
    def _fits_the_engine(self) -> EngineSettings:
        if self.engine == "local" and self.address is not None:
            raise ValueError(f"address = {self.address!r} needs engine = 'ray'")
        if self.engine == "ray" and self.workers is not None:
            raise ValueError(f"workers = {self.workers} needs engine = 'local': a cluster knows its own")
        return self
