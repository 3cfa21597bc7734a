"""Encoded images (PNG, JPEG, ...) as a source holds them, and what can be said of them without keeping pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from coterie.data.formats import known_formats
from coterie.data.kinds import HEAD, explained, kind_of_bytes
from coterie.data.pixels import DEEP_MODES, deep_values, is_deep, is_transparent, levels_between
from coterie.system.load import n_cores
from coterie.system.reading import reason, regular

if TYPE_CHECKING:
    import datasets  # takes a second to import, and glyphs needs this package but not that one

CHUNK = 256  # images per task of the thread pool: one by one, handing out costs more than decoding
GREY_MODES = ("1", "L", "LA", "La", *DEEP_MODES)
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """The encoded images of one split: ``table`` has one column, of records with ``bytes`` or ``path``; ``numbers``:
    what its rows are called by in messages, see ``Source.numbers``.
    """

    table: datasets.Dataset
    column: str
    split: str
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: Sequence[int]) -> list[Any]:
        """The records of some rows; None where a row has no image."""
        records: list[Any] = self.table[list(rows)][self.column]
        return records

    def name(self, row: int, record: Any) -> str:
        """What to call an image in a message: its file, if it has one, and its place."""
        path = record["path"] if record else None
        if path and record["bytes"] is None:
            return str(path)
        return f"row {self.numbers[row]} of {self.split}" + (f" ({path})" if path else "")


@dataclass(frozen=True)
class Broken:
    """A file that cannot be decoded, and why; ``kind``: what it is instead, where that is known."""

    name: str
    reason: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Header(NamedTuple):
    """What an image says of itself before it is decoded; ``size`` is (width, height), once upright."""

    size: tuple[int, int]
    grey: bool
    deep: bool
    transparent: bool


def read_header(record: Any) -> Header | str:
    """The header of an image; or what is wrong."""
    try:
        with open_image(record) as image:
            turned = orientation(image) >= 5  # these four also swap the sides
            size = image.size[::-1] if turned else image.size
            return Header(size, image.mode in GREY_MODES, is_deep(image), is_transparent(image))
    except Exception as error:
        return why(error)


@dataclass(frozen=True, eq=False)
class Survey:
    """What the headers of a split's images say: an example of each (width, height), whether all are grey, the rows of
    images of more than 8 bits, how many may have transparent pixels, and what is wrong with the last broken one.
    """

    examples: dict[tuple[int, int], str]
    grey: bool
    deep: list[int]
    n_transparent: int
    problem: str


def survey(encoded: EncodedImages) -> Survey:
    """Read the headers of all images of a split."""
    examples: dict[tuple[int, int], str] = {}
    deep: list[int] = []
    grey, n_transparent, problem = True, 0, ""

    def work(rows: range) -> list[tuple[int, str, Header | str]]:
        return [
            (row, encoded.name(row, record), read_header(record))
            for row, record in zip(rows, encoded.read(rows), strict=True)
        ]

    for row, name, header in chain.from_iterable(in_threads(work, len(encoded))):
        if isinstance(header, str):
            problem = f"{name}: {header}"
            continue
        examples.setdefault(header.size, name)
        grey = grey and header.grey
        n_transparent += header.transparent
        deep += [row] * header.deep
    return Survey(examples, grey, deep, n_transparent, problem)


def find_levels(encoded: EncodedImages, rows: Sequence[int]) -> tuple[float, float] | None:
    """The levels that suit some images of more than 8 bits; None where there are none."""

    def work(part: range) -> list[tuple[float, float, bool]]:
        return list(filter(None, map(_extremes, encoded.read([rows[place] for place in part]))))

    found = list(chain.from_iterable(in_threads(work, len(rows))))
    if not found:
        return None
    low_N, high_N, whole_N = zip(*found, strict=True)
    return levels_between(min(low_N), max(high_N), whole=all(whole_N))


def _extremes(record: Any) -> tuple[float, float, bool] | None:
    """The least and the largest value of an image of more than 8 bits, and whether values are whole numbers."""
    try:
        with open_image(record) as image:
            values = deep_values(image)
    except Exception:  # it is named when it is decoded
        return None
    return None if values is None else (float(values.min()), float(values.max()), values.dtype.kind != "f")


def in_threads(work: Callable[[range], T], n_images: int) -> Iterable[T]:
    """``work`` on consecutive ranges of rows, in order. Pillow decodes without the interpreter's lock."""
    chunks = [range(start, min(start + CHUNK, n_images)) for start in range(0, n_images, CHUNK)]
    with ThreadPoolExecutor(min(16, n_cores())) as pool:
        yield from pool.map(work, chunks)


def open_image(record: Any) -> Image.Image:
    """The image of a record, which is not decoded yet.

    Raises:
        OSError: its file cannot be read.
        ValueError: there is none, it is something else, or its pixels have no scale of brightness.
    """
    if not record or (record["bytes"] is None and record["path"] is None):
        raise ValueError("no image in this row")
    file = regular(record["path"]) if record["bytes"] is None else io.BytesIO(record["bytes"])
    try:
        image = Image.open(file, formats=known_formats())
    except UnidentifiedImageError:
        raise ValueError(_what_else(file)) from None
    refuse_mode(image)
    return image


def refuse_mode(image: Image.Image) -> None:
    """Raise ValueError for pixels that have no scale of brightness."""
    if image.mode not in GREY_MODES + COLOUR_MODES:
        raise ValueError(f"pixels of mode {image.mode}, which has no scale of brightness; convert them to 8 bits")


def _what_else(file: Path | io.BytesIO) -> str:
    with io.BytesIO(file.getvalue()) if isinstance(file, io.BytesIO) else file.open("rb") as stream:
        head = stream.read(HEAD)
    if not head:
        return "an empty file"
    kind = kind_of_bytes(head)
    if kind == "AVIF image" and "AVIF" in known_formats():
        return "a broken AVIF image"
    return explained(kind) if kind else f"not an image in any known format ({', '.join(known_formats())})"


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) to 8. Cameras write JPEG; looking for it in a PNG decodes all of it."""
    return 1 if image.format == "PNG" else int(image.getexif().get(ExifTags.Base.Orientation, 1))


def why(error: Exception) -> str:
    """What is wrong with an image, without its name, which is told by whoever tells the reason."""
    return " ".join(reason(error).split())[:200]
