"""Encoded images (PNG, JPEG, ...) -> pixels: all at once into memory, or as they are read.

Either way every image is decoded once when the data is loaded: a broken one shows then, not hours later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from coterie.config import DataSettings
from coterie.data.encoded import (
    Broken,
    EncodedImages,
    Survey,
    find_levels,
    in_threads,
    open_image,
    orientation,
    refuse_mode,
    survey,
    why,
)
from coterie.data.pixels import COARSE, SIXTEEN_BITS, deep_values, flatten, thumbnails, to_bytes
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing, MemorySamples, Samples
from coterie.inputs.image import Interpolation
from coterie.system.units import how_many


@dataclass(frozen=True)
class ImageShape:
    """What all images of a task have in common: size in pixels, and channels (1 grey, 3 RGB). Of the rest, see
    ImagePreprocessing.
    """

    height: int
    width: int
    channels: int
    resize: tuple[int, ...] = ()
    interpolation: Interpolation = "bilinear"
    middle: Literal["rounded", "floored"] = "rounded"
    levels: tuple[float, ...] | None = None
    background: tuple[int, ...] = ()

    @classmethod
    def of(cls, form: ImagePreprocessing) -> ImageShape:
        """That of the images that a network takes."""
        resized = (form.resize, form.interpolation, form.middle)
        return cls(form.height, form.width, form.channels, *resized, form.levels, form.background)

    @property
    def n_bytes(self) -> int:
        """Size of one decoded image."""
        return self.height * self.width * self.channels


class FileImages(Samples):
    """Images that stay encoded and are decoded when they are read; ``rows`` picks and orders some of them.
    ``thumb_NT``: thumbnails of all encoded images, or None.
    """

    streamed = True

    def __init__(self, encoded: EncodedImages, shape: ImageShape, rows: Tensor, thumb_NT: Tensor | None = None) -> None:
        self.encoded = encoded
        self.image_shape = shape
        self.rows = rows
        self.thumb_NT = thumb_NT

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
        return FileImages(self.encoded, self.image_shape, self.rows[rows], self.thumb_NT)

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
    splits: dict[str, EncodedImages], settings: DataSettings, form: ImagePreprocessing | None = None
) -> tuple[ImageShape, dict[str, Decoded], list[str]]:
    """Decode every image once; keep the pixels where those of all splits fit into ``settings.memory_gib``.

    Args:
        splits: the encoded images.
        settings: side in pixels, levels and background; default: found.
        form: what a network takes; default: found.

    Returns:
        What all images were made; those that are good, by split; and what to say of levels and background.

    Raises:
        DataError: no image at all can be read, or sizes differ and nothing says what to make of them.
    """
    found = {name: survey(encoded) for name, encoded in splits.items()}
    shape = _common_shape(found, settings.image_size) if form is None or not form.resize else ImageShape.of(form)
    levels = _levels(settings, form, splits["train"], found["train"].deep)
    shape = replace(shape, levels=levels, background=_background(settings, form))
    n_images = sum(len(encoded) for encoded in splits.values())
    in_memory = n_images * shape.n_bytes <= settings.memory_gib * 2**30
    decoded = {name: _decode_split(encoded, shape, in_memory) for name, encoded in splits.items()}
    return shape, decoded, _said(found, shape)


def _levels(
    settings: DataSettings, form: ImagePreprocessing | None, train: EncodedImages, deep: Sequence[int]
) -> tuple[float, ...] | None:
    """Those that the user or the run says; else as suits training images, before other splits are cut from them."""
    if settings.levels is not None:
        return settings.levels
    return find_levels(train, deep) if form is None or form.levels == () else form.levels


def _background(settings: DataSettings, form: ImagePreprocessing | None) -> tuple[int, ...]:
    """The colour that the user says; else as the network's library or the run has it, and white for a new network."""
    if settings.background is None and form is not None:
        return form.background
    return settings.background_colour


def _said(found: Mapping[str, Survey], shape: ImageShape) -> list[str]:
    notes = []
    if n_deep := sum(len(some.deep) for some in found.values()):
        low, high = shape.levels or SIXTEEN_BITS
        notes.append(
            f"{how_many(n_deep, 'image')} of more than 8 bits: {low:g} to {high:g} is black to white (--data.levels)"
        )
    if n_transparent := sum(some.n_transparent for some in found.values()):
        beneath = "transparency dropped, which shows the colours beneath"
        made = f"over #{bytes(shape.background).hex()}" if shape.background else beneath
        notes.append(f"{how_many(n_transparent, 'image')} with transparency: {made} (--data.background)")
    return notes


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

    faults = dict(fault for part in in_threads(work, len(records)) for fault in part)
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
            converted = _resized(_convert(image, shape), shape)
            resized[row] = np.asarray(converted, np.uint8).reshape(form.shape)

    for _ in in_threads(work, len(samples)):
        pass
    return MemorySamples(torch.from_numpy(resized))


def _decode_split(encoded: EncodedImages, shape: ImageShape, in_memory: bool) -> Decoded:
    # Pixels that do not fit are decoded all the same, to find what is broken.
    pixels = np.empty((len(encoded) if in_memory else 0, shape.height, shape.width, shape.channels), np.uint8)
    thumb_NT = torch.zeros((0 if in_memory else len(encoded), COARSE**2), dtype=torch.uint8)

    def work(rows: range) -> list[tuple[int, Broken]]:
        broken = []
        for row, record in zip(rows, encoded.read(rows), strict=True):
            decoded = _decode(record, shape)
            if isinstance(decoded, str):
                broken.append((row, Broken(encoded.name(row, record), decoded)))
            elif in_memory:
                pixels[row] = decoded
            else:
                thumb_NT[row] = thumbnails(torch.from_numpy(decoded.copy()).unsqueeze(0))[0]
        return broken

    broken = [item for part in in_threads(work, len(encoded)) for item in part]
    good = np.delete(np.arange(len(encoded)), [row for row, _ in broken])
    rows = torch.from_numpy(good)
    images = MemorySamples(torch.from_numpy(pixels), rows) if in_memory else FileImages(encoded, shape, rows, thumb_NT)
    return Decoded(images, good, tuple(item for _, item in broken))


def _common_shape(found: Mapping[str, Survey], image_size: int | None) -> ImageShape:
    """The size that all images have (or are to have), and grey only if all of them are."""
    examples: dict[tuple[int, int], str] = {}  # of each (width, height), the first image seen
    for some in found.values():
        examples |= {size: name for size, name in some.examples.items() if size not in examples}
    if not examples:
        problem = next(filter(None, (some.problem for some in found.values())), "there are none")
        raise DataError(f"no image can be read; {problem}")
    if image_size is None and len(examples) > 1:
        (size, name), (other, other_name) = list(examples.items())[:2]
        raise DataError(
            f"images come in {len(examples)} sizes, e.g. {size[0]} x {size[1]} pixels ({name}) and "
            f"{other[0]} x {other[1]} ({other_name}); pass --data.image-size N to make all N x N"
        )
    # One image in colour makes all of them colour: a network takes one number of channels.
    width, height = next(iter(examples)) if image_size is None else (image_size, image_size)
    return ImageShape(height, width, 1 if all(some.grey for some in found.values()) else 3)


def _decode(record: Any, shape: ImageShape) -> np.ndarray | str:
    """Pixels, uint8 (height, width, channels), of a record of a table or a PIL image; or what is wrong."""
    try:
        if isinstance(record, Image.Image):
            refuse_mode(record)
            return _pixels(record, shape)
        with open_image(record) as image:
            return _pixels(image, shape)
    except Exception as error:
        # On broken bytes Pillow raises whatever it trips over: OSError, SyntaxError, struct.error, ...
        return why(error)


def _pixels(image: Image.Image, shape: ImageShape) -> np.ndarray:
    upright = ImageOps.exif_transpose(image) if orientation(image) > 1 else image
    converted = _convert(upright, shape)
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


def _convert(image: Image.Image, shape: ImageShape) -> Image.Image:
    values = deep_values(image)
    if values is not None:
        if image.mode in ("I", "F") and not shape.levels:
            raise ValueError("32 bits a pixel, of which no training image says what is black and white; --data.levels")
        low, high = shape.levels or SIXTEEN_BITS
        image = Image.fromarray(to_bytes(values, (low, high)))
    return flatten(image, shape.background).convert("L" if shape.channels == 1 else "RGB")
