"""All settings of a run, from YAML and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator, model_validator

from coterie.config.data import DataSettings
from coterie.config.defaults import PROBE, differing, named
from coterie.config.recipes import RecipeName
from coterie.config.settings import Settings, merged
from coterie.config.stages import (
    EXACT_BITS,
    MOST_BITS,
    GateSettings,
    PartitionSettings,
    SpecialistSettings,
    TrainingSettings,
)
from coterie.config.system import HardwareSettings, TrackSettings
from coterie.errors import SettingsError
from coterie.system.reading import read_text, reason
from coterie.system.units import bytes_of, seconds_of, share_or_seconds

# The backbone is chosen by what the data is.
AUTO = "auto"

# What may change when a run goes on: these decide how it runs, not its result. (Threads, compilation and where images
# are kept may change the last bits, as another machine does.)
FREE_SETTINGS = (
    *("recipe", "budget", "storage"),  # what they came to are settings too
    "checkpoint_every",
    "max_time",
    "max_memory",
    "track",
    "data.memory_gib",
    "data.workers",
    "hardware.compile",
    "hardware.threads",
)
# Values in a settings file; what an anchor stands for counts wherever it is named.
MOST_VALUES = 100_000


class FitSettings(Settings):
    """All settings of a run.

    >>> settings = FitSettings(seed=4, partition=PartitionSettings(clusters=12))
    >>> settings.partition.clusters, settings.base.epochs
    ((12,), 25)
    """

    data: DataSettings = Field(DataSettings(), description="labelled samples")
    backbone: str = Field(
        AUTO,
        description="auto (the best for the data of those that are installed; the plan says which) | images: "
        "convnet-WIDTH (small, fast on CPUs) | wrn-DEPTH-WIDTH (wrn-28-10, ...) | timm:NAME | "
        "torchvision:NAME | transformers:DIR-or-NAME; texts: ngram-WIDTH | transformers:DIR-or-NAME; tables: "
        "table-mlp-WIDTH; features and sentence embeddings: linear | mlp-WIDTH; any: module:function (builds any "
        "network)",
    )
    weights: str | None = Field(
        None,
        description="weights of a trained base, which is then not trained again: FILE (.safetensors, or a state_dict; "
        "FILE:KEY picks one of several) | own (those that module:function returns); models of transformers bring their "
        "own",
    )
    init: str | None = Field(
        None,
        description="weights that the training of the base starts from: pretrained (those that the library offers, or "
        "that module:function returns) | FILE | FILE:KEY; None: fresh ones. With it, fine-tuning's defaults hold for "
        "base, specialist and data.augment",
    )
    names: str | None = Field(
        None,
        description="class names of a trained base, in the order of its outputs: a file of lines, a .json list, or "
        "FILE.csv:COLUMN",
    )
    head: str | None = Field(None, description="path of the base's head; None: found by running the base")
    refit_head: bool = Field(
        True,
        description="with init: once the base is trained, a head is fitted to its features, by logistic regression, "
        "and takes the place of the trained one where it is clearly better on validation",
    )
    base: TrainingSettings = Field(TrainingSettings(), description="training of the base, on all classes")
    partition: PartitionSettings = Field(PartitionSettings(), description="grouping of the classes")
    recipe: RecipeName = Field(
        "auto",
        description="what specialist, partition and gate are where no option says: auto (by what the base is; the plan "
        "says) | tails (the base's end, of two partitions) | copy (one of all classes) | probe (the network before its "
        "fine-tuning, with a fitted head; needs init) | whole (a network a cluster) | paper (the method's source: "
        "whole, asked at high entropy)",
    )
    budget: str = Field(
        "0.5",
        description="training of all specialists: a share of the base's, or a duration (20m, 2h); it sets their epochs",
    )
    storage: float = Field(
        2.0,
        gt=1,
        le=1e6,
        description="weights of base and specialists together, in those of the base; it sets specialist.bits",
    )
    specialist: SpecialistSettings = Field(
        # Gentler than the base's training, since a specialist starts from trained weights.
        SpecialistSettings(epochs=15, learning_rate=0.05, schedule="cosine"),
        description="training of each specialist, from the base's weights, on its own classes",
    )
    gate: GateSettings = Field(GateSettings(), description="routing to the specialists")
    hardware: HardwareSettings = Field(HardwareSettings(), description="device, precision, threads")
    checkpoint_every: int | None = Field(
        None, ge=1, le=2**31, description="training steps between two checkpoints; None: one checkpoint per epoch"
    )
    max_time: str | None = Field(
        None, description="stop after this time (90s, 10m, 2h, 3d) with exit code 75; the same command goes on"
    )
    max_memory: str | None = Field(
        None, description="stop likewise above this resident memory (500MiB, 4GiB) of the process and its children"
    )
    track: TrackSettings = Field(TrackSettings(), description="where the run's curves are logged")
    seed: int = Field(0, ge=0, lt=2**31, description="the same seed gives the same result on the same machine")

    @model_validator(mode="before")
    @classmethod
    def _of_start(cls, values: Any) -> Any:
        """What was not given has the defaults of how the base starts, and of what it is."""
        if not isinstance(values, dict):
            return values
        if named(values, "specialist").get("trainable") == PROBE and values.get("init") is None:
            raise ValueError(f"specialist.trainable = {PROBE} asks the network with the weights of init: give --init")
        found = dict(values)
        plain = {
            "base": TrainingSettings(),
            "specialist": SpecialistSettings(),
            "partition": PartitionSettings(),
            "gate": GateSettings(),
            "data": DataSettings(),
        }
        for name, defaults in differing(values).items():
            group = values.get(name, plain[name])
            if isinstance(group, Settings):
                left = {key: value for key, value in defaults.items() if key not in group.model_fields_set}
                found[name] = type(group).model_construct(group.model_fields_set, **{**dict(group), **left})
        return found

    @model_validator(mode="after")
    def _one_start(self) -> FitSettings:
        probed = PROBE in {self.recipe, self.specialist.trainable}
        if self.init is not None and self.weights is not None and not probed:
            raise ValueError(
                f"init = {self.init!r} beside weights = {self.weights!r}: weights are of a base that is trained "
                "already, init is where its training starts; give one or the other, or both with recipe probe, which "
                "asks the network as it was before"
            )
        return self

    @field_validator("budget", mode="before")
    @classmethod
    def _a_share_or_duration(cls, budget: Any) -> Any:
        if isinstance(budget, int | float) and not isinstance(budget, bool):
            budget = f"{budget:g}"
        if isinstance(budget, str):
            share_or_seconds(budget)
        return budget

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

    @property
    def start(self) -> str | None:
        """The weights that the training of the base starts from; None: fresh ones, or it is not trained."""
        return self.init if self.weights is None else None

    def specialist_of(self, n_clusters: int) -> SpecialistSettings:
        """Of each specialist, where all partitions together have so many clusters: a single one, of all classes, that
        stands for those of several (``partition.least_open``) has the epochs of all partitions, and no more bits than
        all specialists would have had.
        """
        specialist, partition = self.specialist, self.partition
        if n_clusters > 1 or not partition.least_open:
            return specialist
        epochs, bits = len(partition.clusters) * specialist.epochs, specialist.bits
        if bits != EXACT_BITS:
            bits = min(MOST_BITS, sum(partition.clusters) * bits)
        return specialist.model_copy(update={"epochs": epochs, "bits": bits})

    def before_training(self) -> FitSettings:
        """These settings with the base as it was before it was fine-tuned, here or elsewhere."""
        return self.model_copy(update={"weights": None})

    def all_given(self) -> FitSettings:
        """These settings as if each had been named: no recipe fills anything in."""
        return self.marked(self.to_values())

    def with_seed(self, seed: int) -> FitSettings:
        """These settings with another seed and the same splits: ``data.split_seed`` is fixed first."""
        split_seed = self.seed if self.data.split_seed is None else self.data.split_seed
        data = self.data.model_copy(update={"split_seed": split_seed})
        return self.model_copy(update={"seed": seed, "data": data})

    def untracked(self) -> FitSettings:
        """These settings without the place outside the run folder that they log to: where they come from a run folder,
        they may be a stranger's.
        """
        return self.model_copy(update={"track": self.track.model_copy(update={"mlflow": None, "client": None})})

    @classmethod
    def from_yaml(cls, path: Path) -> FitSettings:
        """Settings from a YAML file; those that it does not name have their defaults.

        Raises:
            SettingsError: the file is missing, not YAML, or holds a setting that is unknown or not allowed.
        """
        try:
            values = yaml.safe_load(read_text(path))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read the settings file {path}: {reason(error)}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a number too long, no such date
            raise SettingsError(f"{path} is not YAML: {error}") from None
        if values is None:
            values = {}
        if _are_more_than(MOST_VALUES, values):
            raise SettingsError(f"{path} holds more than {MOST_VALUES:,} values, with those that its anchors repeat")
        if not isinstance(values, dict):
            raise SettingsError(f"{path} must hold names and values; it holds a {type(values).__name__}")
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> FitSettings:
        """Settings from nested plain values, as YAML and JSON hold them; those not named have their defaults.

        >>> FitSettings.from_values({"specialist": {"epochs": 3}}).specialist.learning_rate
        0.05

        Raises:
            SettingsError: a setting is unknown or not allowed.
        """
        _refuse_other_names(values)
        found = merged(merged(FitSettings().to_values(), differing(values)), values)
        for name, field in cls.model_fields.items():
            group = field.annotation
            if isinstance(group, type) and issubclass(group, Settings) and isinstance(found[name], dict):
                # Group by group, so that a message says in which group a setting is wrong.
                try:
                    found[name] = group(**found[name])
                except SettingsError as error:
                    raise SettingsError("\n".join(f"in {name}: {line}" for line in str(error).split("\n"))) from None
        return cls(**found).marked(values)

    def to_values(self) -> dict[str, Any]:
        """All settings as nested plain values."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """All settings as YAML text."""
        return yaml.safe_dump(self.to_values(), sort_keys=False, allow_unicode=True)


def _refuse_other_names(values: Any) -> None:
    """Names in YAML may be numbers, dates or nothing at all."""
    for name, value in values.items() if isinstance(values, dict) else ():
        if not isinstance(name, str):
            raise SettingsError(f"unknown setting {name!r}: the name of a setting is a word")
        _refuse_other_names(value)


def _are_more_than(most: int, values: Any) -> bool:
    """Whether there are more values than so many. A file of a few lines can hold billions, or itself."""
    waiting, n_seen = [values], 0
    while waiting and n_seen <= most:
        value = waiting.pop()
        n_seen += 1
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
    return n_seen > most
