"""Where labelled samples come from."""

from __future__ import annotations

import codecs
from typing import Any, Literal

from PIL import ImageColor
from pydantic import Field, ValidationInfo, field_validator

from coterie.config.settings import Settings
from coterie.config.source import full_source
from coterie.vocabulary import Modality

# A background that is none, and a column of splits that is none.
DROP = "drop"
NO_SPLIT = "no"


class DataSettings(Settings):
    """Where labelled samples come from: images, texts, rows of tables, or features."""

    source: str = Field(
        "glyphs",
        description="glyphs (embedded, generated) | parquet:DIR | csv:FILE | jsonl:FILE | arrow:FILE | folder:DIR | "
        "hub:NAME | features:FILE (.npz or .parquet) | cifar100 (a download); of a path alone, the kind is found",
    )
    configuration: str | None = Field(None, description="hub only: name of one of the data set's configurations")
    modality: Modality | None = Field(None, description="what the columns hold; None: found by their types")
    image: str | None = Field(None, description="image column; None: found by its type")
    text: tuple[str, ...] | None = Field(
        None, min_length=1, description="text column, or several, whose texts are joined; None: found by their types"
    )
    label: str | None = Field(None, description="label column; None: found by its type")
    columns: tuple[str, ...] | None = Field(
        None, min_length=1, description="tables: columns to use; features: the column of vectors; None: all, or found"
    )
    categorical: tuple[str, ...] = Field((), description="tables: columns whose numbers stand for categories")
    ignore: tuple[str, ...] | None = Field(
        None,
        description="columns that are not used; None: those that number or name rows, if each of their values is there "
        "once; no name: none is ignored",
    )
    split: str | None = Field(
        None,
        min_length=1,
        description="column that says train, validation or test of each row; None: one called split, subset, fold or "
        "the like that says nothing else; no: none",
    )
    separator: str | None = Field(
        None, description="csv: what stands between cells, one character or tab; None: found in the first rows"
    )
    encoding: str | None = Field(
        None, description="csv: of the file, by Python's name (cp1252, utf-16, gb18030); None: found"
    )
    root: str | None = Field(
        None,
        min_length=1,
        description="folder of the images that a table names by their paths; None: the table's own, the current one, "
        "or the only one beside the table that has them",
    )
    text_as: Literal["ngrams", "minilm"] = Field(
        "ngrams",
        description="how texts are represented: ngrams (hashed words and parts of words, for ngram-WIDTH) | minilm "
        "(sentence embeddings, for linear and mlp-WIDTH)",
    )
    buckets: int = Field(
        2**15, ge=16, le=2**24, description="number of hash buckets for n-grams, half of them for words"
    )
    longest: int = Field(
        1024,
        ge=1,
        le=2**20,
        description="n-grams kept of each text; for a model of transformers, tokens, up to the number that it takes",
    )
    image_size: int | None = Field(
        None, ge=8, le=1024, description="side in pixels to which images are resized; None: not resized"
    )
    levels: tuple[float, float] | None = Field(
        None,
        description="images of more than 8 bits: the values that are black and white; None: found in training images",
    )
    background: str | None = Field(
        None,
        description="colour behind transparent pixels: a name or #rrggbb | drop (the colours beneath show); None: "
        "white, or as the library of a network with trained weights has it",
    )
    validation_share: float = Field(
        0.2, gt=0, lt=1, description="share cut from train, stratified, if the source has no validation split"
    )
    test_share: float = Field(
        0.2, gt=0, lt=1, description="share cut from train, before validation, if the source has no test split"
    )
    imbalance: float | None = Field(
        None,
        ge=1,
        description="thin train to a long tail: the first class keeps this many times the samples of the last; None: "
        "not thinned",
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural",
        description="training batches: natural (each sample once per epoch) | balanced (each class equally often)",
    )
    skip_broken: bool = Field(
        False, description="skip images that cannot be decoded, empty texts and rows without a label, and list them"
    )
    skip_unknown: bool = Field(
        False,
        description="leave out validation and test samples of classes that train lacks; the run counts those of test, "
        "which are errors of any classifier",
    )
    merge_names: bool = Field(
        False,
        description="join classes whose names differ in space around them, in case, or in how Unicode composes letters",
    )
    memory_gib: float = Field(
        2.0,
        ge=0,
        le=2**20,
        description="largest size of the decoded images that is kept in memory; larger data is decoded by workers",
    )
    mean: tuple[float, ...] | None = Field(
        None, description="mean per channel, 0 to 1, that a base trained elsewhere subtracts; None: measured on train"
    )
    std: tuple[float, ...] | None = Field(
        None,
        validate_default=True,
        description="standard deviation per channel, 0 to 1, by which it divides; needs --data.mean",
    )
    standardize: bool | None = Field(
        None,
        description="features and sentence embeddings: give them mean 0 and standard deviation 1 over train; None: "
        "unless the base came trained, on features as they are",
    )
    workers: int = Field(
        2, ge=0, le=256, description="worker processes that decode images, if these exceed --data.memory-gib"
    )
    augment: Literal["shift", "photo"] = Field(
        "shift",
        description="training images: shift (random crop of the padded image, flip, cutout) | photo (random resized "
        "crop, flip, TrivialAugment, random erasing; the default with --init)",
    )
    crop_padding: int = Field(
        4, ge=0, le=64, description="augment shift only: pixels of padding for the random crop; 0: no crop"
    )
    cutout: int = Field(
        0, ge=0, le=1024, description="side in pixels of a square that is cut out at a random place; 0: none"
    )
    flip: bool | None = Field(None, description="random horizontal flips in training; None: as suits the data")
    split_seed: int | None = Field(
        None, ge=0, lt=2**31, description="seed of the splits that are cut or generated; None: the run's --seed"
    )
    train_per_class: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="glyphs only: training images per class, with a quarter as many for validation and for test; "
        "None: 110",
    )

    def with_source(self, source: str) -> DataSettings:
        """These settings with another source.

        Raises:
            SettingsError: the source is not allowed.
        """
        return DataSettings(**{**self.model_dump(), "source": source})

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        return full_source(source)

    @field_validator("configuration")
    @classmethod
    def _configuration_of_the_hub(cls, configuration: str | None, info: ValidationInfo) -> str | None:
        if configuration is not None and not str(info.data.get("source")).startswith("hub:"):
            raise ValueError("only data sets of the hub have configurations; source must be hub:NAME")
        return configuration

    @field_validator("separator")
    @classmethod
    def _one_character(cls, separator: str | None) -> str | None:
        if separator in ("tab", "\\t"):  # what a shell passes on
            return "\t"
        if separator is not None and (len(separator) != 1 or separator in '"\r\n' or not separator.isascii()):
            raise ValueError("must be tab, or one character of ASCII that is neither a quote nor the end of a line")
        if separator is not None and separator.isalnum():
            raise ValueError("must not be a letter or a digit, which cells hold")
        return separator

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str | None) -> str | None:
        if encoding is None:
            return None
        try:
            # Codecs of bytes, such as base64, decode no text.
            "a,b".encode(encoding).decode(encoding)
            return codecs.lookup(encoding).name
        except (LookupError, ValueError):
            raise ValueError(
                "must be an encoding of texts that Python knows, such as utf-8, cp1252 or gb18030"
            ) from None

    @field_validator("levels")
    @classmethod
    def _ascending(cls, levels: tuple[float, float] | None) -> tuple[float, float] | None:
        if levels is not None and not -1e37 < levels[0] < levels[1] < 1e37:
            raise ValueError("the first must be below the second")
        return levels

    @field_validator("background")
    @classmethod
    def _a_colour(cls, background: str | None) -> str | None:
        if background is not None and background != DROP:
            try:
                ImageColor.getrgb(background)
            except ValueError:
                raise ValueError(f"must be {DROP}, #rrggbb, or the name of a colour such as white") from None
        return background

    @property
    def background_colour(self) -> tuple[int, ...]:
        """Red, green and blue from 0 to 255 behind transparent pixels; empty: their transparency is dropped."""
        return () if self.background == DROP else ImageColor.getrgb(self.background or "white")[:3]

    @field_validator("text", "columns", "categorical", "ignore", mode="before")
    @classmethod
    def _one_or_many(cls, columns: Any) -> Any:
        return (columns,) if isinstance(columns, str) else columns

    @field_validator("std")
    @classmethod
    def _with_mean(cls, std: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        mean = info.data.get("mean")
        if (mean is None) != (std is None) or (mean is not None and std is not None and len(mean) != len(std)):
            raise ValueError("mean and std must be given together, each with one number per channel")
        if std is not None and min(std) <= 0:
            raise ValueError("each must be above 0")
        return std
