"""Encoded images (PNG, JPEG, ...) -> pixels: all at once into memory, or as they are read.

Either way every image is decoded once when the data is loaded: a broken one shows then, not hours later.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from coterie.data.formats import known_formats
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing, MemorySamples, Samples
from coterie.inputs.image import Interpolation
from coterie.system.reading import reason, regular

if TYPE_CHECKING:
    import datasets  # takes a second to import, and glyphs needs this module but not that one

CHUNK = 256  # images per task of the thread pool: one by one, handing out costs more than decoding
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """The encoded images of one split: ``table`` has one column, of records with ``bytes`` or ``path``."""

    table: datasets.Dataset
    column: str
    split: str

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
        return f"row {row} of {self.split}" + (f" ({path})" if path else "")


@dataclass(frozen=True)
class ImageShape:
    """What all images of a task have in common: size in pixels, and channels (1 grey, 3 RGB); ``resize``,
    ``interpolation`` and ``middle``: see ImagePreprocessing.
    """

    height: int
    width: int
    channels: int
    resize: tuple[int, ...] = ()
    interpolation: Interpolation = "bilinear"
    middle: Literal["rounded", "floored"] = "rounded"

    @classmethod
    def of(cls, form: ImagePreprocessing) -> ImageShape:
        """That of the images that a network takes."""
        return cls(form.height, form.width, form.channels, form.resize, form.interpolation, form.middle)

    @property
    def n_bytes(self) -> int:
        """Size of one decoded image."""
        return self.height * self.width * self.channels


@dataclass(frozen=True)
class Broken:
    """An image that cannot be decoded, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class FileImages(Samples):
    """Images that stay encoded and are decoded when they are read; ``rows`` picks and orders some of them."""

    streamed = True

    def __init__(self, encoded: EncodedImages, shape: ImageShape, rows: Tensor) -> None:
        self.encoded = encoded
        self.image_shape = shape
        self.rows = rows

    @override
    def __len__(self) -> int:
        return len(self.rows)

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return self.image_shape.height, self.image_shape.width, self.image_shape.channels

    @override
    def read(self, rows_B: Tensor) -> Tensor:
        places = self.rows[rows_B].tolist()
        pixels = np.empty((len(places), *self.shape), np.uint8)
        for k, (place, record) in enumerate(zip(places, self.encoded.read(places), strict=True)):
            decoded = _decode(record, self.image_shape)
            if isinstance(decoded, str):
                raise DataError(f"cannot decode {self.encoded.name(place, record)}: {decoded}")
            pixels[k] = decoded
        return torch.from_numpy(pixels)

    @override
    def take(self, rows: Tensor) -> FileImages:
        return FileImages(self.encoded, self.image_shape, self.rows[rows])

    @override
    def show(self, row: int) -> str:
        return ""


@dataclass(frozen=True, eq=False)
class Decoded:
    """The good images of one split; ``rows``: which of the split's rows they are; ``broken``: the others."""

    images: Samples
    rows: np.ndarray
    broken: tuple[Broken, ...]


def decode_splits(
    splits: dict[str, EncodedImages], image_size: int | None, memory_bytes: float, shape: ImageShape | None = None
) -> tuple[ImageShape, dict[str, Decoded]]:
    """Decode every image once; keep the pixels where those of all splits fit into ``memory_bytes``.

    Args:
        splits: the encoded images.
        image_size: side in pixels; None: that of the images.
        memory_bytes: for the pixels of all splits.
        shape: what a network takes; default: found.

    Raises:
        DataError: no image at all can be read, or sizes differ and ``image_size`` is None.
    """
    shape = shape or _common_shape(splits, image_size)
    n_images = sum(len(encoded) for encoded in splits.values())
    in_memory = n_images * shape.n_bytes <= memory_bytes
    return shape, {name: _decode_split(encoded, shape, in_memory) for name, encoded in splits.items()}


def read_images(
    files: Sequence[Path], preprocessing: ImagePreprocessing, *, skip_broken: bool = False
) -> tuple[MemorySamples, tuple[Path, ...], tuple[str, ...]]:
    """Decode image files for a trained ensemble, as its networks take them.

    Returns:
        The images; the files they come from, in the same order; and, with ``skip_broken``, what was skipped and why.

    Raises:
        DataError: a file is missing or not an image (named), unless ``skip_broken``; or no image is left.
    """
    records = [{"bytes": None, "path": str(file)} for file in files]
    images, rows, broken = decode_records(records, list(map(str, files)), preprocessing)
    if broken and not skip_broken:
        raise DataError(f"{refusal(broken, len(files))}. --skip-broken leaves them out")
    if not rows:
        raise DataError("no image to classify" + (f"; {'; '.join(map(str, broken[:5]))}" if broken else ""))
    return images, tuple(files[row] for row in rows), tuple(map(str, broken))


def decode_records(
    records: Sequence[Any], names: Sequence[str], preprocessing: ImagePreprocessing
) -> tuple[MemorySamples, list[int], list[Broken]]:
    """Decode images for a trained ensemble, as its networks take them.

    Args:
        records: ``bytes`` or ``path`` of each, as in a table; or PIL images.
        names: of the images.
        preprocessing: of the ensemble.

    Returns:
        The good images, their rows, and the others.
    """
    shape = ImageShape.of(preprocessing)
    pixels = np.empty((len(records), *preprocessing.shape), np.uint8)

    def work(rows: range) -> list[tuple[int, str]]:
        broken = []
        for row in rows:
            decoded = _decode(records[row], shape)
            if isinstance(decoded, str):
                broken.append((row, decoded))
            else:
                pixels[row] = decoded
        return broken

    faults = dict(fault for part in _in_threads(work, len(records)) for fault in part)
    good = [row for row in range(len(records)) if row not in faults]
    kept = torch.from_numpy(pixels[good] if faults else pixels)
    return MemorySamples(kept), good, [Broken(names[row], why) for row, why in faults.items()]


def refusal(broken: Sequence[Broken], n_files: int) -> str:
    """The message that names some of the files that cannot be read, of so many."""
    return f"{len(broken)} of {n_files} files cannot be read: {'; '.join(map(str, broken[:5]))}"


def resize_pixels(pixels_NHWC: Tensor, size: int | None) -> Tensor:
    """Square uint8 images at ``size`` x ``size`` pixels, antialiased; as they are if it is None or theirs."""
    if size is None or tuple(pixels_NHWC.shape[1:3]) == (size, size):
        return pixels_NHWC
    # In parts, which bounds the memory that interpolation takes on the way.
    resized = [
        functional.interpolate(part.permute(0, 3, 1, 2), (size, size), mode="bilinear", antialias=True)
        for part in torch.split(pixels_NHWC, 4096)
    ]
    return torch.cat(resized).permute(0, 2, 3, 1).contiguous()


def resize_like(samples: Samples, form: ImagePreprocessing) -> MemorySamples:
    """Images in memory as a network takes them: resized and cut out as files are, in its number of channels."""
    pixels = samples.read(torch.arange(len(samples)))
    shape = ImageShape.of(form)
    resized = np.empty((len(samples), *form.shape), np.uint8)

    def work(rows: range) -> None:
        for row in rows:
            image = Image.fromarray(pixels[row].squeeze(2).numpy() if pixels.shape[3] == 1 else pixels[row].numpy())
            converted = _resized(_convert(image, shape.channels), shape)
            resized[row] = np.asarray(converted, np.uint8).reshape(form.shape)

    for _ in _in_threads(work, len(samples)):
        pass
    return MemorySamples(torch.from_numpy(resized))


def _decode_split(encoded: EncodedImages, shape: ImageShape, in_memory: bool) -> Decoded:
    # Pixels that do not fit are decoded all the same, to find what is broken.
    pixels = np.empty((len(encoded) if in_memory else 0, shape.height, shape.width, shape.channels), np.uint8)

    def work(rows: range) -> list[tuple[int, Broken]]:
        broken = []
        for row, record in zip(rows, encoded.read(rows), strict=True):
            decoded = _decode(record, shape)
            if isinstance(decoded, str):
                broken.append((row, Broken(encoded.name(row, record), decoded)))
            elif in_memory:
                pixels[row] = decoded
        return broken

    broken = [item for part in _in_threads(work, len(encoded)) for item in part]
    good = np.delete(np.arange(len(encoded)), [row for row, _ in broken])
    rows = torch.from_numpy(good)
    images = MemorySamples(torch.from_numpy(pixels), rows) if in_memory else FileImages(encoded, shape, rows)
    return Decoded(images, good, tuple(item for _, item in broken))


def _common_shape(splits: dict[str, EncodedImages], image_size: int | None) -> ImageShape:
    """Read all headers: the size that all images have (or are to have), and grey only if all of them are."""
    examples: dict[tuple[int, int], str] = {}  # of each (width, height), the first image seen
    grey = True
    first_problem = "there are none"
    for encoded in splits.values():

        def work(rows: range, encoded: EncodedImages = encoded) -> list[tuple[str, Any]]:
            return [
                (encoded.name(row, record), read_header(record))
                for row, record in zip(rows, encoded.read(rows), strict=True)
            ]

        for part in _in_threads(work, len(encoded)):
            for name, header in part:
                if isinstance(header, str):
                    first_problem = f"{name}: {header}"
                else:
                    examples.setdefault(header[0], name)
                    grey = grey and header[1]
    if not examples:
        raise DataError(f"no image can be read; {first_problem}")
    if image_size is None and len(examples) > 1:
        (size, name), (other, other_name) = list(examples.items())[:2]
        raise DataError(
            f"images come in {len(examples)} sizes, e.g. {size[0]} x {size[1]} pixels ({name}) and "
            f"{other[0]} x {other[1]} ({other_name}); pass --data.image-size N to make all N x N"
        )
    # One image in colour makes all of them colour: a network takes one number of channels.
    width, height = next(iter(examples)) if image_size is None else (image_size, image_size)
    return ImageShape(height, width, 1 if grey else 3)


def _in_threads(work: Callable[[range], T], n_images: int) -> Iterable[T]:
    """``work`` on consecutive ranges of rows, in order. Pillow decodes without the interpreter's lock."""
    chunks = [range(start, min(start + CHUNK, n_images)) for start in range(0, n_images, CHUNK)]
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        yield from pool.map(work, chunks)


def read_header(record: Any) -> tuple[tuple[int, int], bool] | str:
    """(width, height) once upright and whether it is grey, without decoding; or what is wrong."""
    try:
        with _open(record) as image:
            turned = _orientation(image) >= 5  # these four also swap the sides
            return (image.size[::-1] if turned else image.size), image.mode in GREY_MODES
    except Exception as error:
        return _reason(error)


def _decode(record: Any, shape: ImageShape) -> np.ndarray | str:
    """Pixels, uint8 (height, width, channels), of a record of a table or a PIL image; or what is wrong."""
    try:
        if isinstance(record, Image.Image):
            return _pixels(record, shape)
        with _open(record) as image:
            return _pixels(image, shape)
    except Exception as error:
        # On broken bytes Pillow raises whatever it trips over: OSError, SyntaxError, struct.error, ...
        return _reason(error)


def _pixels(image: Image.Image, shape: ImageShape) -> np.ndarray:
    _refuse_mode(image)
    upright = ImageOps.exif_transpose(image) if _orientation(image) > 1 else image
    converted = _convert(upright, shape.channels)
    if shape.resize:
        converted = _resized(converted, shape)
    elif converted.size != (shape.width, shape.height):
        # The largest centred part of the target's proportions, scaled.
        converted = ImageOps.fit(converted, (shape.width, shape.height), Image.Resampling.BILINEAR)
    return np.asarray(converted, np.uint8).reshape(shape.height, shape.width, shape.channels)


def _resized(image: Image.Image, shape: ImageShape) -> Image.Image:
    """The image resized, and its centre cut out: pixel by pixel what torchvision's transforms make of it."""
    width, height = image.size
    short = min(width, height)
    # The longer side is cut off to whole pixels, as torchvision does.
    size = shape.resize[::-1] if len(shape.resize) == 2 else [int(shape.resize[0] * s / short) for s in (width, height)]
    if tuple(size) != image.size:
        image = image.resize((size[0], size[1]), Image.Resampling[shape.interpolation.upper()])
    whole = round if shape.middle == "rounded" else int
    left, top = whole((size[0] - shape.width) / 2), whole((size[1] - shape.height) / 2)
    return image.crop((left, top, left + shape.width, top + shape.height))


def _open(record: Any) -> Image.Image:
    if not record or (record["bytes"] is None and record["path"] is None):
        raise ValueError("no image in this row")
    file = regular(record["path"]) if record["bytes"] is None else io.BytesIO(record["bytes"])
    image = Image.open(file, formats=known_formats())
    _refuse_mode(image)
    return image


def _refuse_mode(image: Image.Image) -> None:
    if image.mode not in GREY_MODES + COLOUR_MODES:
        raise ValueError(f"pixels of mode {image.mode}, which has no scale of brightness; convert them to 8 bits")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) to 8. Cameras write JPEG; looking for it in a PNG decodes all of it."""
    return 1 if image.format == "PNG" else int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of a palette's transparency on the direct way
    return image.convert("L" if channels == 1 else "RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image in any known format ({', '.join(known_formats())})"
    # A file is named by whoever tells the reason.
    return " ".join(reason(error).split())[:200]
