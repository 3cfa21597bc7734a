"""Samples that Python passes: to a trained ensemble, or labelled ones as splits."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageOps
from typing_extensions import override

from coterie.config import DataSettings
from coterie.data.cut import cut_missing, cut_splits
from coterie.data.decode import resize_like
from coterie.data.encoded import read_header
from coterie.data.new import NewImages, NewSamples, NewTexts, find_new, nothing_left
from coterie.data.pieces import Piece, as_record, join_texts, record
from coterie.data.splits import Split, Splits
from coterie.errors import DataError, InputError
from coterie.inputs import ImagePreprocessing, MemorySamples, Preprocessing, Samples
from coterie.inputs.image import prescribed_image
from coterie.inputs.table import as_table
from coterie.labels import LabelSpace
from coterie.vocabulary import Modality

# What the source of such samples is called in settings, by modality; no file has this name.
SOURCES: dict[Modality, str] = {
    "image": "folder:<images passed from Python>",
    "text": "csv:<texts passed from Python>",
    "table": "csv:<table passed from Python>",
    "features": "features:<array passed from Python>",
}
TEXT, IMAGE = "text", "image"
STRINGS = (pa.string(), pa.large_string(), pa.string_view())


class _GivenImages(NewImages):
    """Images that Python passes: of PIL, encoded as bytes, and by paths, as the command line takes them."""

    hint = ""

    @override
    def _all_pieces(self) -> Iterator[Piece]:
        for number, item in enumerate(self.arguments):
            match item:
                case Image.Image():
                    yield [f"image {number}"], [item]
                case bytes():
                    yield [f"image {number}"], [as_record(item)]
                case str() | os.PathLike():
                    yield from self._pieces_of(_path(item), number)
                case _:
                    raise InputError(
                        f"image {number} of {len(self.arguments)} is of the type {type(item).__name__}, where others "
                        "are PIL images, bytes or paths; arrays are passed as one array, or as a list of arrays alone"
                    )


class _GivenTexts(NewTexts):
    """Texts of files that Python passes by their paths; nothing is a text itself."""

    hint = ""

    @override
    def _pieces_of(self, argument: str, number: int) -> Iterator[Piece]:
        return NewSamples._pieces_of(self, argument, number)


def given_samples(preprocessing: Preprocessing, raw: Any, columns: tuple[str, ...] = ()) -> Iterator[Samples]:
    """Samples of what Python passes: ``Samples``, what the preprocessing takes, or what has to be read, in batches.

    Args:
        preprocessing: the run's.
        raw: images also as PIL images (cropped and scaled as files are), bytes that hold encoded ones, paths of files,
            folders (in the order of names) and patterns, or a list of these; rows and features also as paths of files,
            or a list of them; texts also as ``pathlib.Path`` of files with a text a line, or a list of them.
        columns: of texts or image files in tables, see ``find_new``.

    Raises:
        DataError: a file is missing or broken, which is named.
        InputError: it is something else.
    """
    items = tuple(raw) if isinstance(raw, list | tuple) else (raw,)
    modality = preprocessing.modality
    if modality == "image" and any(isinstance(item, Image.Image | bytes | str | os.PathLike) for item in items):
        found: NewSamples = _GivenImages(preprocessing, items, columns, _ignore, None)
    elif items and modality == "text" and all(isinstance(item, os.PathLike) for item in items):
        found = _GivenTexts(preprocessing, tuple(map(_path, items)), columns, _ignore, None)
    elif modality == "text" and columns and is_table(raw):
        yield preprocessing.samples(texts_of(raw, columns))
        return
    elif items and modality != "text" and all(isinstance(item, str | os.PathLike) for item in items):
        found = find_new(preprocessing, map(_path, items))
    else:
        yield preprocessing.check(raw)
        return
    some = False
    for new in found.batches():
        some = True
        yield preprocessing.check(new.samples)
    if not some:
        raise nothing_left(preprocessing)


def is_table(raw: Any) -> bool:
    """Whether it has columns with names, as data frames, Arrow tables and mappings of columns have."""
    return isinstance(raw, Mapping) or hasattr(raw, "columns")


def text_columns_of(frame: Any) -> tuple[str, ...]:
    """The columns of a data frame that are texts, and no categories, see ``text_columns``; none of a table."""
    from coterie.data.text_columns import columns_of_words

    table = as_table(frame, "a data frame")
    texts = {field.name: table[field.name].cast(pa.string()) for field in table.schema if field.type in STRINGS}
    numbers = any(pa.types.is_integer(field.type) or pa.types.is_floating(field.type) for field in table.schema)
    return tuple(columns_of_words(texts, beside_numbers=numbers))


def texts_of(frame: Any, columns: Sequence[str]) -> list[str]:
    """The texts of a data frame's columns, as one where they are several.

    Raises:
        InputError: one is not there, or holds something else.
    """
    table = as_table(frame, "texts, or a data frame of them")
    for name in columns:
        if name not in table.column_names or table.schema.field(name).type not in STRINGS:
            raise InputError(
                f"the data frame has no column {name!r} of texts; columns: {', '.join(table.column_names)}"
            )
    return join_texts([table[name].to_pylist() for name in columns])


def splits_of(
    raw: Any,
    label_N: np.ndarray,
    labels: LabelSpace,
    settings: DataSettings,
    seed: int,
    preprocessing: Preprocessing | None = None,
) -> Splits:
    """Training, validation and test samples, cut by class.

    Args:
        raw: N samples, as ``settings.source`` says by SOURCES: images uint8 (N, H, W) or (N, H, W, channels), or a list
            of ``image_list``; texts; a data frame or an Arrow table; or features (N, F).
        label_N: class indices.
        labels: the classes.
        settings: how samples are represented and cut.
        seed: of the cut.
        preprocessing: that the network prescribes; default: learned from train.

    Raises:
        DataError: too few samples to cut, or samples that cannot be used.
    """
    label_N = label_N.astype(np.int64)
    if settings.source == SOURCES["image"] and not isinstance(raw, list):
        return _images(raw, label_N, labels, settings, seed, preprocessing)
    given = {"train": label_N}
    if settings.source == SOURCES["features"]:
        from coterie.data.features import load_features

        return load_features({"train": raw}, labels, given, settings, seed, preprocessing)
    from coterie.data.reading import as_dataset, plain_columns
    from coterie.data.tables import Source

    if settings.source == SOURCES["image"]:
        from coterie.data.huggingface import load_images

        form = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
        source = Source({"train": as_dataset(pa.table({IMAGE: pa.array(map(_record, raw), form)}))})
        splits = load_images(source, IMAGE, labels, given, settings, seed, preprocessing)
        return replace(splits, flip=False)  # as of arrays
    if settings.source == SOURCES["text"]:
        from coterie.data.texts import load_texts

        tables = {"train": as_dataset(pa.table({TEXT: pa.array(list(raw), pa.string())}))}
        return load_texts(tables, TEXT, labels, given, settings, seed, preprocessing, ())
    from coterie.data.rows import load_table

    table = plain_columns(as_table(raw, "a table with a column for each feature"))
    source = Source({"train": as_dataset(table)})
    return load_table(source, _no_column(table.column_names), labels, given, settings, seed, preprocessing, ())


def _images(
    raw: np.ndarray,
    label_N: np.ndarray,
    labels: LabelSpace,
    settings: DataSettings,
    seed: int,
    preprocessing: Preprocessing | None,
) -> Splits:
    samples, form = images_of(raw, preprocessing), prescribed_image(preprocessing)
    splits = cut_missing({"train": Split(samples, torch.from_numpy(label_N))}, settings, seed)
    sizes = ", ".join(f"{len(splits[name]):,} {name}" for name in ("train", "validation", "test"))
    height, width, channels = samples.shape
    return Splits(
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        labels=labels,
        preprocessing=form or ImagePreprocessing.measure(splits["train"].samples),
        about=f"{settings.source}: {len(labels)} classes, {sizes} images of {width} x {height} pixels, "
        + ("grey" if channels == 1 else "RGB"),
        flip=False,  # nobody said that a mirrored image keeps its class: digits do not
        cut=cut_splits({"train"}),
    )


def are_images(items: Sequence[Any]) -> bool:
    """Whether all are images to be read: of PIL, arrays, encoded in bytes, or by the paths of their files."""
    return len(items) > 0 and all(
        isinstance(item, Image.Image | bytes | os.PathLike)
        or (isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim in (2, 3))
        or (isinstance(item, str) and item.lower().endswith(NewImages.suffixes))
        for item in items
    )


def image_list(items: Iterable[Any]) -> list[Any]:
    """Images as ``are_images`` has them, arrays among them as images of PIL: they may differ in size."""
    return [
        Image.fromarray(item[..., 0] if item.shape[2:] == (1,) else item) if isinstance(item, np.ndarray) else item
        for item in items
    ]


def size_of(raw: Any) -> tuple[tuple[int, int], bool]:
    """Width and height of images, or of the first where they are a list, and whether it is in colour; 0 where it cannot
    be read.
    """
    if isinstance(raw, np.ndarray):
        return (raw.shape[2], raw.shape[1]), raw.shape[3:] == (3,)
    header = read_header(_record(raw[0]))
    return ((0, 0), False) if isinstance(header, str) else (header.size, not header.grey)


def _record(item: Any) -> dict[str, Any]:
    """An image as a table holds it."""
    if isinstance(item, Image.Image):
        stream = io.BytesIO()
        # Of the formats without loss that which has most kinds of pixels; it would forget which side is up.
        ImageOps.exif_transpose(item).save(stream, "tiff")
        item = stream.getvalue()
    return as_record(item) if isinstance(item, bytes) else record(os.fspath(item))


def images_of(raw: Any, preprocessing: Preprocessing | None) -> MemorySamples:
    """Images of an array; resized and cut out where the network prescribes how.

    Args:
        raw: uint8 of shape (N, H, W) or (N, H, W, 1 or 3).
        preprocessing: that the network prescribes, if it does.

    Raises:
        DataError: it is of another shape or type.
    """
    raw = np.asarray(raw)
    pixels = raw[..., None] if raw.ndim == 3 else raw
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
        raise DataError(
            f"images must be uint8 of shape (N, H, W) or (N, H, W, 1 or 3); got {raw.dtype} of shape {raw.shape}"
        )
    samples = MemorySamples(torch.from_numpy(np.require(pixels, requirements=["C", "W"])))
    form = prescribed_image(preprocessing)
    return samples if form is None else resize_like(samples, form)


def _path(item: str | os.PathLike[str]) -> str:
    """A path that does not stand for standard input."""
    path = os.fspath(item)
    return "./-" if path == "-" else path


def _ignore(_: str) -> None:
    return


def _no_column(names: Sequence[str]) -> str:
    """A name that no column has: labels are given apart."""
    name = "label"
    while name in names:
        name += "_"
    return name
