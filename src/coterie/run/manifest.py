"""What a run says of itself: the manifest, as frozen records in Python and as JSON on disk."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from coterie.backbones import Head
from coterie.backbones.base import NetworkForm
from coterie.config import FitSettings
from coterie.config.data import NO_SPLIT
from coterie.config.recipes import WHOLE
from coterie.config.source import TABLES
from coterie.data.splits import Columns, CutSplit
from coterie.errors import ArtifactError, CoterieError, SettingsError
from coterie.inputs import AnyPreprocessing
from coterie.labels import LabelSpace
from coterie.measures.costs import RunCosts
from coterie.partition import Partition
from coterie.routing.gate import GainModel, Gate
from coterie.run.names import BASE_FILE, check_file_name
from coterie.run.names import MANIFEST as MANIFEST
from coterie.system.files import read_regular
from coterie.system.json_text import first_fault, from_json
from coterie.vocabulary import CombinerName, ScoreName

FORMAT: Literal[2] = 2
# Of a manifest, which is held in memory several times over while it is read; one of 100,000 classes has 5 MB.
MOST_BYTES = 32 * 2**20
MOST_FILES = 50_000

FileName = Annotated[str, AfterValidator(check_file_name)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
ThreadCount = Annotated[int, Field(ge=1, le=1024)]
Seconds = Annotated[float, Field(ge=0)]
# Means of means may end in another last bit.
Share = Annotated[float, Field(ge=-1e-9, le=1 + 1e-9)]
# Such as no fit gives, and far from where sums and products overflow.
Number = Annotated[float, Field(ge=-1e12, le=1e12)]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]
Members = Annotated[tuple[tuple[Count, ...], ...], Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileRecord(_Frozen):
    """Size in bytes and sha256 of a file."""

    bytes: Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class DataRecord(_Frozen):
    """What an ensemble must know of its data to take new samples.

    ``n_unknown``: as of ``Splits``. ``sizes``: of training, validation and test samples; None: an older version wrote
    it. ``encoding``: of csv files, where it is no Unicode; new ones are probably written so too. ``perhaps_seen``: the
    splits that were cut from train where the base came with weights of its classes, perhaps trained on these samples.
    ``n_in_validation``, ``columns``: as of ``Splits``.
    """

    about: str
    classes: tuple[str, ...]
    input: AnyPreprocessing
    n_unknown: Count = 0
    sizes: tuple[Count, Count, Count] | None = None
    encoding: str | None = None
    perhaps_seen: tuple[CutSplit, ...] = ()
    n_in_validation: Count = 0
    columns: Columns | None = None

    def same_samples(self, other: Self) -> bool:
        """Whether this and another record can be of the same samples, though two versions describe them differently."""
        later = (name for name in ("sizes", "encoding") if None in (getattr(self, name), getattr(other, name)))
        aside = {"about": "", "perhaps_seen": (), "n_in_validation": 0, "columns": None, **dict.fromkeys(later)}
        return self.model_copy(update=aside) == other.model_copy(update=aside)

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        LabelSpace(self.classes)
        return self


class TrunkRecord(_Frozen):
    """Of specialists that are tails on the base's trunk: the module whose output they take, and the operations of a
    tail's pass in those of the base's.
    """

    cut: str
    pass_cost: Annotated[float, Field(ge=0)]


class Candidate(_Frozen):
    """One number of clusters that was tried: cross-fitted validation accuracy of its ensemble."""

    clusters: Count
    accuracy: Share


class PartitionRecord(_Frozen):
    """The classes of each cluster, and the numbers of clusters that were tried; ``layers``: see Partition."""

    members: Members
    candidates: tuple[Candidate, ...]
    layers: tuple[Count, ...] = ()


class GainRecord(_Frozen):
    """A learned gate: a linear estimate of the gain."""

    intercept: Number
    coefficients: tuple[Number, ...]


class TriedRecord(_Frozen):
    """One rule that was tried, on validation: cross-fitted accuracy and gain over the base, shares of 1."""

    combiner: str
    score: ScoreName
    accuracy: Share
    gain: Annotated[float, Field(ge=-1 - 1e-9, le=1 + 1e-9)]
    passes: Annotated[float, Field(ge=0)]
    routed: Share


class GateRecord(_Frozen):
    """How rows are routed and answers combined, and what that was chosen from; a threshold of null routes nothing.

    Runs of earlier versions lack all after the threshold: what is left out is the paper's rule.
    """

    score: ScoreName
    combiner: CombinerName
    threshold: Number | None
    weights: tuple[Share, ...] = (1.0,)
    top: Annotated[int, Field(ge=1, lt=2**31)] = 1
    temperature: Temperature = 1.0
    base_temperature: Temperature = 1.0
    specialist_temperatures: tuple[Temperature, ...] = (1.0,)
    gain: GainRecord | None = None
    limits: dict[Literal["passes", "routed", "risk", "threshold"], float] = {}
    accuracy: Share | None = None
    note: str = ""
    tried: tuple[TriedRecord, ...] = ()

    @model_validator(mode="after")
    def _is_a_gate(self) -> Self:
        model = None if self.gain is None else GainModel(**self.gain.model_dump())
        Gate(math.inf if self.threshold is None else self.threshold, self.score, model)
        return self


class RefitRecord(_Frozen):
    """A head that was fitted to the trained base's features: what it gained on validation and the standard error of
    that, shares of 1, and whether it took the place of the trained one.
    """

    gain: Number
    error: Annotated[float, Field(ge=0, le=1)]
    taken: bool


class PilotRecord(_Frozen):
    """The first specialists that were trained, by cluster, and what they foretold: the skill of all and its spread,
    and the gain in accuracy with its 95 % interval, shares of 1.
    """

    clusters: tuple[Count, ...]
    skill: Number
    spread: Annotated[float, Field(gt=0, lt=math.inf)]
    gain: Number
    low: Number
    high: Number


class ChangeRecord(_Frozen):
    """What made this run of another: ``run``, as it was called; the source of the samples; and the cluster trained
    again, the class added, or the weight of the ensemble's answers beside the labels and the files of samples without.
    """

    kind: Literal["refit", "add-class", "distil"]
    run: str
    source: str
    cluster: int | None = None
    class_name: str | None = None
    weight: Share | None = None
    unlabelled: tuple[str, ...] = ()


def _settings(values: Any) -> Any:
    # A run of an earlier version lacks the settings that came later: it had what are now their defaults, but for the
    # column of splits, of which it knew nothing, and its recipe, which was whole networks where nothing else was said.
    if not isinstance(values, dict):
        return values
    values, data = {"recipe": WHOLE, **values}, values.get("data")
    if isinstance(data, dict) and str(data.get("source")).partition(":")[0] in TABLES:
        values = {**values, "data": {"split": NO_SPLIT, **data}}
    # All of them decided what the run is, whether somebody named them or not.
    return FitSettings.from_values(values).all_given()


class Manifest(_Frozen):
    """All that a run says of itself. Records are filled in as stages finish.

    ``train_counts``: training samples of each class; ``trunk``: None where specialists are whole networks.
    """

    format: Literal[2] = FORMAT
    complete: bool = False
    versions: dict[str, str] = Field(default_factory=lambda: installed_versions())
    settings: Annotated[FitSettings, BeforeValidator(_settings)]
    data: DataRecord | None = None
    train_counts: tuple[Count, ...] = ()
    head: Head | None = None
    trunk: TrunkRecord | None = None
    network: NetworkForm | None = None
    seconds: dict[str, Seconds] = {}
    base_threads: tuple[tuple[Count, ThreadCount], ...] = ()
    partition: PartitionRecord | None = None
    gate: GateRecord | None = None
    costs: RunCosts | None = None
    changes: tuple[ChangeRecord, ...] = ()
    files: Annotated[dict[FileName, FileRecord], Field(max_length=MOST_FILES)] = {}
    replacing: Annotated[dict[FileName, FileRecord], Field(max_length=MOST_FILES)] = {}
    groupings: tuple[Members, ...] = ()
    refit: RefitRecord | None = None
    pilot: PilotRecord | None = None
    disk_bytes: Count | None = None
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

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Raises what a partition raises that leaves a class out."""
        if BASE_FILE in self.files and BASE_FILE not in self.seconds:
            raise ValueError(f"seconds lacks {BASE_FILE}")
        if self.data is None:
            return self
        n_classes = len(self.data.classes)
        if len(self.train_counts) not in (0, n_classes):
            raise ValueError(f"train_counts has {len(self.train_counts)} numbers for {n_classes} classes")
        for members in self.groupings:
            _partition(members, n_classes)
        if self.partition is not None:
            _partition(self.partition.members, n_classes, self.partition.layers)
        return self


def _partition(members: tuple[tuple[int, ...], ...], n_classes: int, layers: tuple[int, ...] = ()) -> None:
    """Raises ValueError or PartitionError unless these are clusters that partitions of these classes have."""
    for classes in members:
        if len(set(classes)) < len(classes) or max(classes, default=0) >= n_classes:
            raise ValueError(f"a cluster holds a class twice, or one that is not among the {n_classes} classes")
    found = Partition.from_members(members, n_classes, layers)
    for layer in found.layers:
        if len({c for cluster in layer.tolist() for c in members[cluster]}) < n_classes:
            raise ValueError("partitions side by side need each class in a cluster of each")


class FinishedManifest(Manifest):
    """The manifest of a finished run, which has every record that predicting takes."""

    complete: Literal[True]
    data: DataRecord
    head: Head
    partition: PartitionRecord
    gate: GateRecord
    costs: RunCosts

    @model_validator(mode="after")
    def _of_one_size(self) -> Self:
        n_classes, n_clusters = len(self.data.classes), len(self.partition.members)
        if self.head.out_features != n_classes or self.head.in_features < 1:
            raise ValueError(f"a head of {self.head.in_features} inputs, {self.head.out_features} classes is no head")
        for values in (self.gate.weights, self.gate.specialist_temperatures):
            if len(values) not in (1, n_clusters):
                raise ValueError(f"the gate has {len(values)} values for {n_clusters} clusters")
        if min(cost for cost in vars(self.costs).values() if cost is not None) < 0:
            raise ValueError("costs are negative")
        return self


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
    base_threads: tuple[tuple[int, int], ...]
    partition: PartitionRecord
    gate: GateRecord
    costs: RunCosts | None
    changes: tuple[ChangeRecord, ...]
    files: dict[str, FileRecord]
    replacing: dict[str, FileRecord]
    groupings: tuple[tuple[tuple[int, ...], ...], ...]
    refit: RefitRecord
    pilot: PilotRecord
    disk_bytes: int
    later_versions: tuple[dict[str, str], ...]


ManifestT = TypeVar("ManifestT", bound=Manifest)


def read_manifest(path: Path, kind: type[ManifestT]) -> ManifestT:
    """The manifest in a run folder.

    Raises:
        ArtifactError: there is none, it is damaged, or its format is newer than this version of coterie reads.
    """
    file = path / MANIFEST
    try:
        values = from_json(read_regular(file, MOST_BYTES))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is not a coterie run: it has no {MANIFEST}") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise ArtifactError(f"cannot read {file}: {error}") from None
    found = values.get("format") if isinstance(values, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise ArtifactError(
            f"{file} has format {found}; coterie {version('coterie')} reads up to {FORMAT}. Upgrade coterie"
        )
    with _faults_named(file):
        return kind.model_validate(values)


def as_finished(path: Path, manifest: Manifest) -> FinishedManifest:
    """The manifest of a run that says that it is finished.

    Raises:
        ArtifactError: it lacks a record that a finished run has, or its records do not agree.
    """
    with _faults_named(path / MANIFEST):
        # What it does not hold counts as missing, not as None.
        return FinishedManifest(**{name: getattr(manifest, name) for name in manifest.model_fields_set})


@contextmanager
def _faults_named(file: Path) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise ArtifactError(f"{file} is damaged: {first_fault(error)}") from None
    except SettingsError as error:
        raise ArtifactError(f"{file} is damaged: settings: {error}") from None
    except CoterieError as error:  # of the values that it stands for
        raise ArtifactError(f"{file} is damaged: {error}") from None


def installed_versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    packages = ("numpy", "scikit-learn", "scipy", "torch", "lightning-fabric")
    return {
        "coterie": version("coterie"),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
