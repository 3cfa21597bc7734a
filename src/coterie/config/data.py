"""Where labelled samples come from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from coterie.config.settings import Settings
from coterie.vocabulary import Modality

# Kinds of sources, and what stands behind the colon.
PLACES = {"parquet": "DIR", "csv": "FILE", "jsonl": "FILE", "folder": "DIR", "hub": "NAME", "features": "FILE"}


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
