"""What a run says of itself: the manifest, as frozen records in Python and as JSON on disk."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Annotated, Any, Literal, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from coterie.backbones import Head
from coterie.backbones.base import NetworkForm
from coterie.config import FitSettings
from coterie.inputs import AnyPreprocessing
from coterie.measures.costs import RunCosts
from coterie.vocabulary import CombinerName, ScoreName

FORMAT: Literal[2] = 2
MANIFEST = "manifest.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Frozen):
    """Size in bytes and sha256 of a file."""

    bytes: int
    sha256: str


class DataRecord(_Frozen):
    """What an ensemble must know of its data to take new samples."""

    about: str
    classes: tuple[str, ...]
    input: AnyPreprocessing


class TrunkRecord(_Frozen):
    """Of specialists that are tails on the base's trunk: the module whose output they take, and the operations of a
    tail's pass in those of the base's.
    """

    cut: str
    pass_cost: float


class Candidate(_Frozen):
    """One number of clusters that was tried: cross-fitted validation accuracy of its ensemble."""

    clusters: int
    accuracy: float


class PartitionRecord(_Frozen):
    """The classes of each cluster, and the numbers of clusters that were tried; ``layers``: see Partition."""

    members: tuple[tuple[int, ...], ...]
    candidates: tuple[Candidate, ...]
    layers: tuple[int, ...] = ()


class GainRecord(_Frozen):
    """A learned gate: a linear estimate of the gain."""

    intercept: float
    coefficients: tuple[float, ...]


class TriedRecord(_Frozen):
    """One rule that was tried, on validation: cross-fitted accuracy and gain over the base, shares of 1."""

    combiner: str
    score: ScoreName
    accuracy: float
    gain: float
    passes: float
    routed: float


class GateRecord(_Frozen):
    """How rows are routed and answers combined, and what that was chosen from; a threshold of null routes nothing.

    Runs of earlier versions lack all after the threshold: what is left out is the paper's rule.
    """

    score: ScoreName
    combiner: CombinerName
    threshold: float | None
    weights: tuple[float, ...] = (1.0,)
    top: int = 1
    temperature: float = 1.0
    base_temperature: float = 1.0
    specialist_temperatures: tuple[float, ...] = (1.0,)
    gain: GainRecord | None = None
    limits: dict[str, float] = {}
    accuracy: float | None = None
    note: str = ""
    tried: tuple[TriedRecord, ...] = ()


class ChangeRecord(_Frozen):
    """One change in part that made this run of another: ``run``, as it was called; the source of the samples; and the
    cluster trained again, or the class added.
    """

    kind: Literal["refit", "add-class"]
    run: str
    source: str
    cluster: int | None = None
    class_name: str | None = None


def _settings(values: Any) -> Any:
    # A run of an earlier version lacks the settings that came later: it had what are now their defaults.
    return FitSettings.from_values(values) if isinstance(values, dict) else values


class Manifest(_Frozen):
    """All that a run says of itself. Records are filled in as stages finish.

    ``train_counts``: training samples of each class; ``trunk``: None where specialists are whole networks.
    """

    format: Literal[2] = FORMAT
    complete: bool = False
    versions: dict[str, str] = Field(default_factory=lambda: installed_versions())
    settings: Annotated[FitSettings, BeforeValidator(_settings)]
    data: DataRecord | None = None
    train_counts: tuple[int, ...] = ()
    head: Head | None = None
    trunk: TrunkRecord | None = None
    network: NetworkForm | None = None
    seconds: dict[str, float] = {}
    partition: PartitionRecord | None = None
    gate: GateRecord | None = None
    costs: RunCosts | None = None
    changes: tuple[ChangeRecord, ...] = ()
    files: dict[str, FileRecord] = {}
    replacing: dict[str, FileRecord] = {}
    groupings: tuple[tuple[tuple[int, ...], ...], ...] = ()
    disk_bytes: int | None = None
    later_versions: tuple[dict[str, str], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_format_1(cls, values: Any) -> Any:
        """Format 1 knew images only, and held their form among the data's other values."""
        if not isinstance(values, dict) or values.get("format") != 1:
            return values
        data = values.get("data")
        if isinstance(data, dict):
            form = {name: value for name, value in data.items() if name not in ("about", "classes")}
            data = {"about": data.get("about"), "classes": data.get("classes"), "input": {"kind": "image", **form}}
        return {**values, "format": FORMAT, "data": data}


class FinishedManifest(Manifest):
    """The manifest of a finished run, which has every record that predicting takes."""

    complete: Literal[True]
    data: DataRecord
    head: Head
    partition: PartitionRecord
    gate: GateRecord
    costs: RunCosts


class Records(TypedDict, total=False):
    """What ``Run.update`` takes: records of the manifest by name. Format and first versions never change."""

    complete: bool
    settings: FitSettings
    data: DataRecord
    train_counts: tuple[int, ...]
    head: Head | None
    trunk: TrunkRecord | None
    network: NetworkForm | None
    seconds: dict[str, float]
    partition: PartitionRecord
    gate: GateRecord
    costs: RunCosts | None
    changes: tuple[ChangeRecord, ...]
    files: dict[str, FileRecord]
    replacing: dict[str, FileRecord]
    groupings: tuple[tuple[tuple[int, ...], ...], ...]
    disk_bytes: int
    later_versions: tuple[dict[str, str], ...]


def installed_versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    packages = ("numpy", "scikit-learn", "scipy", "torch", "lightning-fabric")
    return {
        "coterie": version("coterie"),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
