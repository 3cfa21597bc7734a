"""Every setting a run has: one small frozen class per stage, validated when it is read, YAML in and out.

The command line's options are derived from these classes; there is no second list.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from coterie.errors import SettingsError
from coterie.system.limits import bytes_of, seconds_of
from coterie.vocabulary import GROUPS_COLUMN, CombinerName, Modality, PartitionMethod, ScoreName, embedding_parts

# Kinds of sources, and what stands behind the colon.
PLACES = {"parquet": "DIR", "csv": "FILE", "jsonl": "FILE", "folder": "DIR", "hub": "NAME", "features": "FILE"}


# What may change when a run goes on: how it goes, and not what comes out. (Threads, compilation and where images are
# kept may change the last bits, as another machine does.)
FREE_SETTINGS = (
    "checkpoint_every",
    "max_time",
    "max_memory",
    "track",
    "data.memory_gib",
    "data.workers",
    "hardware.compile",
    "hardware.threads",
)


class Settings(BaseModel):
    """A frozen group of settings; unknown names and values out of range raise SettingsError."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_describe(type(self), error)) from None


class DataSettings(Settings):
    """Where labelled samples come from: images, texts, rows of tables, or features."""

    source: str = Field(
        "glyphs",
        description="glyphs (embedded, generated) | parquet:DIR | csv:FILE | jsonl:FILE | folder:DIR | hub:NAME | "
        "features:FILE (.npz or .parquet) | cifar100 (a download)",
    )
    configuration: str | None = Field(None, description="hub only: which of a data set's configurations")
    modality: Modality | None = Field(None, description="what the columns hold; found by their types if left out")
    image: str | None = Field(None, description="image column; found by its type if left out")
    text: str | None = Field(None, description="text column; found by its type if left out")
    label: str | None = Field(None, description="label column; found by its type if left out")
    columns: tuple[str, ...] | None = Field(
        None, min_length=1, description="tables: columns to use, all if left out; features: the column of vectors"
    )
    categorical: tuple[str, ...] = Field((), description="tables: columns of numbers that are names of categories")
    text_as: Literal["ngrams", "minilm"] = Field(
        "ngrams",
        description="texts as ngrams (hashed words and parts of words, for ngram-WIDTH) | minilm (sentence embeddings, "
        "for linear and mlp-WIDTH)",
    )
    buckets: int = Field(2**15, ge=16, le=2**24, description="n-grams are hashed to so many numbers, half for words")
    longest: int = Field(
        1024, ge=1, description="n-grams that are kept of a text; or tokens, where the model takes as many"
    )
    image_size: int | None = Field(
        None, ge=8, le=1024, description="side in pixels that images are resized to; their own if left out"
    )
    validation_share: float = Field(
        0.2, gt=0, lt=1, description="share cut from train, stratified, where there is no validation split"
    )
    test_share: float = Field(0.2, gt=0, lt=1, description="the same for test, cut before validation")
    imbalance: float | None = Field(
        None,
        ge=1,
        description="thin train to a long tail: the first class has this many times what the last one has",
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural", description="training batches as the data comes | of classes drawn alike often"
    )
    skip_broken: bool = Field(
        False, description="leave out images that cannot be decoded, and empty texts, naming them"
    )
    memory_gib: float = Field(
        2.0, ge=0, description="keep decoded images in memory up to this size; beyond, decode in workers"
    )
    mean: tuple[float, ...] | None = Field(
        None, description="per channel, 0 to 1: what a base that was trained elsewhere subtracts; measured if left out"
    )
    std: tuple[float, ...] | None = Field(
        None, validate_default=True, description="per channel, 0 to 1: what it then divides by; with --data.mean"
    )
    workers: int = Field(2, ge=0, le=256, description="worker processes that decode, where images do not fit in memory")
    crop_padding: int = Field(4, ge=0, le=64, description="pixels of padding for the random crop; 0: no crop")
    cutout: int = Field(0, ge=0, le=1024, description="side in pixels of a square hole at a random place; 0: none")
    flip: bool | None = Field(None, description="random horizontal flips; as suits the data if left out")
    split_seed: int | None = Field(
        None, ge=0, lt=2**31, description="seed of the splits that are cut or generated; the run's seed if left out"
    )
    train_per_class: int | None = Field(
        None, ge=1, description="glyphs only: training images per class (validation and test get a quarter each)"
    )

    def with_source(self, source: str) -> DataSettings:
        """The same with another source, checked as any."""
        return DataSettings(**{**self.model_dump(), "source": source})

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, _, rest = source.partition(":")
        if (kind in {"glyphs", "cifar100"} and not rest) or (kind in PLACES and rest):
            return source
        *some, last = (f"{kind}:{place}" for kind, place in PLACES.items())
        raise ValueError(f"must be glyphs, cifar100, {', '.join(some)} or {last}")

    @field_validator("configuration")
    @classmethod
    def _configuration_of_the_hub(cls, configuration: str | None, info: ValidationInfo) -> str | None:
        if configuration is not None and not str(info.data.get("source")).startswith("hub:"):
            raise ValueError("only a data set of the hub has configurations: source must be hub:NAME")
        return configuration

    @field_validator("columns", "categorical", mode="before")
    @classmethod
    def _one_or_many(cls, columns: Any) -> Any:
        return (columns,) if isinstance(columns, str) else columns

    @field_validator("std")
    @classmethod
    def _with_mean(cls, std: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        mean = info.data.get("mean")
        if (mean is None) != (std is None) or (mean is not None and std is not None and len(mean) != len(std)):
            raise ValueError("mean and std are given together, one number per channel each")
        if std is not None and min(std) <= 0:
            raise ValueError("each must be above 0")
        return std


class TrainingSettings(Settings):
    """How a network is trained."""

    epochs: int = Field(25, ge=1, description="passes over the training images")
    batch_size: int = Field(128, ge=2, description="images per step")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with Nesterov momentum, or AdamW")
    learning_rate: float = Field(0.2, gt=0, description="the schedule's peak")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's momentum")
    weight_decay: float = Field(
        5e-4, ge=0, description="on weights of two or more dimensions; never on norms and biases"
    )
    schedule: Literal["one-cycle", "cosine"] = Field("one-cycle", description="with warm-up, or a plain decay to 0")
    warmup_share: float = Field(0.2, ge=0, lt=1, description="share of the steps in which one-cycle rises")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="mass spread over all classes")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient; unclipped if left out")
    average_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="the result is a running average of the weights, of which each step keeps this share, such as "
        "0.99; 0: the last weights",
    )


# Of a kept difference: as it is; and otherwise from this many to that many, on average.
EXACT_BITS, FEWEST_BITS, MOST_BITS = 32, 1.5, 8


class SpecialistSettings(TrainingSettings):
    """How each specialist is trained, and which part of it."""

    trainable: str = Field(
        "all",
        description="all | head | last-N (the last N parts, of which the head is one) | NAME (a module of the network, "
        "with all that runs after it) | lora-R (an adapter of rank R beside each layer, and the head; needs peft); "
        "what is not trained stays the base's, running statistics before it included",
    )
    views: int = Field(
        4,
        ge=0,
        description="where not all is trained: augmented views of each sample for which the output of the part before "
        "is computed, once for all epochs; 0: anew in each epoch",
    )
    bits: float = Field(
        EXACT_BITS,
        description="of each difference from the base's weights that is kept, on average: 1.5 to 8; 32 keeps the "
        "weights as they are",
    )

    patience: int | None = Field(
        None,
        ge=1,
        description="epochs without a lower loss on the cluster's validation samples after which a specialist stops, "
        "with the weights of the best epoch; all epochs if left out. The learning rate falls as over all epochs",
    )

    @field_validator("patience")
    @classmethod
    def _one_result(cls, patience: int | None, info: ValidationInfo) -> int | None:
        if patience is not None and info.data.get("average_decay"):
            raise ValueError("the weights of the best epoch, or their average (average_decay): one or the other")
        return patience

    @field_validator("bits")
    @classmethod
    def _allowed_bits(cls, bits: float) -> float:
        if bits != EXACT_BITS and not FEWEST_BITS <= bits <= MOST_BITS:
            raise ValueError(f"must be from {FEWEST_BITS} to {MOST_BITS}, or {EXACT_BITS}")
        return bits

    @property
    def kept_views(self) -> int:
        """Views that are kept: no more than there are epochs to draw them in; 0: none."""
        return min(self.views, self.epochs)


class PartitionSettings(Settings):
    """How classes are grouped by their label embeddings."""

    method: PartitionMethod = Field(
        "spectral",
        description="spectral (the paper's) | kmeans (spherical) | average, ward (agglomerative) | leiden | "
        "balanced (of limited size) | confusion (what validation confuses) | random (spectral's sizes: the control) | "
        "given (by --partition.groups)",
    )
    clusters: tuple[int, ...] = Field(
        (9,), min_length=1, description="number of clusters; of several, the best on validation is taken"
    )
    together: bool = Field(
        False,
        description="with several numbers of clusters: all partitions keep their specialists, and a sample asks one "
        "of each partition",
    )
    groups: str | None = Field(
        None,
        validate_default=True,
        description="given only: column:NAME, a further label column of the data; or a file with a group's name per "
        "class: lines, a .json list, or FILE.csv:COLUMN",
    )
    embedding: str = Field(
        "head",
        description="what stands for a class: head (its weight row: the paper's) | head+bias | means (of what enters "
        "the head) | confusion (on validation) | FILE (.npy, .npz, .safetensors: a vector a class, such as text "
        "embeddings of the names); two of these with a + between them are mixed",
    )
    overlap: float = Field(
        0.0,
        ge=0,
        description="classes that join a further cluster, one that the base takes their samples for: how many such "
        "memberships, as a share of all classes; each costs training",
    )
    max_size: int | None = Field(
        None, ge=1, description="balanced and confusion only: classes per cluster at most; as S suggests if left out"
    )

    @field_validator("groups")
    @classmethod
    def _groups_if_given(cls, groups: str | None, info: ValidationInfo) -> str | None:
        if (info.data.get("method") == "given") != (groups is not None):
            raise ValueError("method given needs groups, from a file or a column, and no other method takes any")
        if groups == GROUPS_COLUMN:
            raise ValueError("column: needs the column's name")
        return groups

    @field_validator("embedding")
    @classmethod
    def _known_parts(cls, embedding: str) -> str:
        embedding_parts(embedding)
        return embedding

    @field_validator("clusters", mode="before")
    @classmethod
    def _one_or_many(cls, clusters: Any) -> Any:
        return (clusters,) if isinstance(clusters, int) else clusters

    @field_validator("clusters")
    @classmethod
    def _at_least_one(cls, clusters: tuple[int, ...]) -> tuple[int, ...]:
        if min(clusters) < 1:
            raise ValueError("each must be at least 1 (and at most the number of classes)")
        if len(set(clusters)) < len(clusters):
            raise ValueError("each may be given once")
        return clusters


class GateSettings(Settings):
    """When specialists are asked, and how their answers are used. What is `auto` is chosen on validation."""

    score: Literal["auto", ScoreName] = Field(
        "auto",
        description="what is routed: entropy (the paper's, in nats) | confidence (1 - largest probability) | margin | "
        "energy | clusters (entropy over clusters) | contested (what is at stake in the likely cluster) | learned",
    )
    combiner: Literal["auto", CombinerName] = Field(
        "auto",
        description="hard: the specialist decides (the paper's rule); compose: P_base(cluster) x P_specialist(class | "
        "cluster); blend, average, product: base and specialist mixed within the cluster",
    )
    top: int | None = Field(None, ge=1, description="likely clusters whose specialists are asked; 1 or 2 if left out")
    threshold: float | None = Field(
        None, description="route at this score and above; chosen on validation if left out", validate_default=True
    )
    passes: float | None = Field(None, ge=1, description="limit: forward passes per image on average, the base's too")
    routed: float | None = Field(None, ge=0, le=1, description="limit: share of images that are routed")
    risk: float | None = Field(
        None, ge=0, le=1, description="bound the error rate by this (confidence 95 %) at the least cost"
    )

    @field_validator("threshold")
    @classmethod
    def _threshold_of_a_score(cls, threshold: float | None, info: ValidationInfo) -> float | None:
        if threshold is not None and info.data.get("score") == "auto":
            raise ValueError("a threshold needs a score by name: each has a scale of its own")
        return threshold

    @field_validator("passes", "routed", "risk")
    @classmethod
    def _nothing_beside_a_threshold(cls, limit: float | None, info: ValidationInfo) -> float | None:
        if limit is not None and info.data.get("threshold") is not None:
            raise ValueError("a threshold leaves nothing to choose: give one or the other")
        return limit


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


class FitSettings(Settings):
    """All settings of a run."""

    data: DataSettings = Field(DataSettings(), description="labelled samples")
    backbone: str = Field(
        "convnet-64",
        description="images: convnet-WIDTH (small, fast on CPUs) | wrn-DEPTH-WIDTH (wrn-28-10, ...) | timm:NAME | "
        "torchvision:NAME | transformers:DIR-or-NAME; texts: ngram-WIDTH | transformers:DIR-or-NAME; tables: "
        "table-mlp-WIDTH; features and sentence embeddings: linear | mlp-WIDTH; any: module:function (builds any "
        "network)",
    )
    weights: str | None = Field(
        None,
        description="weights of a trained base, which is then not trained: FILE (.safetensors, or a state_dict) | own "
        "(those with which module:function builds it; transformers' own are taken without asking)",
    )
    names: str | None = Field(
        None,
        description="what a trained base calls its outputs, in their order: a file of lines, a .json list, or "
        "FILE.csv:COLUMN",
    )
    head: str | None = Field(None, description="path of the base's head; found by running it if left out")
    base: TrainingSettings = Field(TrainingSettings(), description="training of the base, on all classes")
    partition: PartitionSettings = Field(PartitionSettings(), description="grouping of the classes")
    specialist: SpecialistSettings = Field(
        SpecialistSettings(epochs=15, learning_rate=0.05, schedule="cosine"),
        description="training of each specialist, from the base's weights, on its own classes",
    )
    gate: GateSettings = Field(GateSettings(), description="routing to the specialists")
    hardware: HardwareSettings = Field(HardwareSettings(), description="device, precision, threads")
    checkpoint_every: int | None = Field(
        None, ge=1, description="steps between two states of a training that are kept; one an epoch if left out"
    )
    max_time: str | None = Field(
        None, description="stop after this long (90s, 10m, 2h, 3d), keeping the state; exit code 75"
    )
    max_memory: str | None = Field(
        None, description="stop above this resident memory (500MiB, 4GiB), likewise; of the process and its children"
    )
    track: TrackSettings = Field(TrackSettings(), description="logs")
    seed: int = Field(0, ge=0, lt=2**31, description="the same seed gives the same result on the same machine")

    @field_validator("max_time")
    @classmethod
    def _a_duration(cls, text: str | None) -> str | None:
        if text is not None:
            seconds_of(text)
        return text

    @field_validator("max_memory")
    @classmethod
    def _a_size(cls, text: str | None) -> str | None:
        if text is not None:
            bytes_of(text)
        return text

    def with_seed(self, seed: int) -> FitSettings:
        """The same on the same splits, whatever they are cut by, with another seed."""
        split_seed = self.seed if self.data.split_seed is None else self.data.split_seed
        data = self.data.model_copy(update={"split_seed": split_seed})
        return self.model_copy(update={"seed": seed, "data": data})

    @classmethod
    def from_yaml(cls, path: Path) -> FitSettings:
        """Read settings from a YAML file; what it leaves out has its default.

        Raises:
            SettingsError: the file is missing, not YAML, or holds a setting that is unknown or not allowed.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read the settings file {path}: {error}") from None
        except yaml.YAMLError as error:
            raise SettingsError(f"{path} is not YAML: {error}") from None
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise SettingsError(f"{path} must hold names and values; it holds a {type(values).__name__}")
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> FitSettings:
        """Settings from nested plain values, as YAML and JSON hold them; stage defaults fill what is left out."""
        merged = _merge(FitSettings().to_values(), values)
        for name, field in cls.model_fields.items():
            group = field.annotation
            if isinstance(group, type) and issubclass(group, Settings) and isinstance(merged[name], dict):
                try:
                    merged[name] = group(**merged[name])
                except SettingsError as error:
                    raise SettingsError("\n".join(f"in {name}: {line}" for line in str(error).split("\n"))) from None
        return cls(**merged)

    def to_values(self) -> dict[str, Any]:
        """All settings as nested plain values."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """All settings as YAML text."""
        return yaml.safe_dump(self.to_values(), sort_keys=False, allow_unicode=True)


def _merge(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """``values`` over ``defaults``: a file that sets ``specialist.epochs`` keeps the specialist's other defaults,
    which differ from those of the base although their class is the same.
    """
    merged = dict(defaults)
    for name, value in values.items():
        before = defaults.get(name)
        merged[name] = _merge(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _describe(cls: type[BaseModel], error: ValidationError) -> str:
    """One line per wrong setting: its name, the value given, what is allowed."""
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown setting {name!r}; allowed here: {', '.join(cls.model_fields)}")
        else:
            lines.append(f"{name} = {item['input']!r}: {item['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
