"""Pixels that 8 bits do not hold, and transparent ones, as 8-bit images in grey or colour."""

from __future__ import annotations

import io
import math
import sys
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor
from torch.nn import functional

SIXTEEN_BITS = (0.0, 65536.0)
COARSE = 8  # cells to a side of a thumbnail
# One channel of 16 or 32 bits, and floating-point numbers.
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")

# Of colours of 16 bits, the names in Pillow of both orders of bytes.
OTHER_HALF = {f"{mode};16{one}": f"{mode};16{other}" for mode in ("RGB", "RGBA") for one, other in ("BL", "LB")}
OTHER_HALF |= {f"{mode};16N": f"{mode};16{'B' if sys.byteorder == 'little' else 'L'}" for mode in ("RGB", "RGBA")}


def is_deep(image: Image.Image) -> bool:
    """Whether an opened image has channels of more than 8 bits, of which Pillow would keep the upper 8."""
    return image.mode in DEEP_MODES or ";16" in _raw_mode(image)


def is_transparent(image: Image.Image) -> bool:
    """Whether an opened image may have transparent pixels."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def deep_values(image: Image.Image) -> np.ndarray | None:
    """The values of an opened image of more than 8 bits, (height, width) or (height, width, channels); None for 8 bits,
    and for what Pillow reads by the upper 8 alone.

    Raises:
        ValueError: a value is not finite.
    """
    if _raw_mode(image) in OTHER_HALF:
        return _colour_values(image)
    if image.mode not in DEEP_MODES:
        return None
    values = np.asarray(image)
    if image.mode == "F" and not np.isfinite(values).all():
        raise ValueError("a pixel is NaN or infinite")
    return values


def levels_between(low: float, high: float, *, whole: bool) -> tuple[float, float]:
    """What becomes 0 and 256, of values between ``low`` and ``high``: the range of as many bits as they take if they
    fill half of it, else (a thermal camera's 29,000 to 31,000) their own.

    >>> [levels_between(low, high, whole=True) for low, high in ((12, 800), (29000, 31000))]
    [(0.0, 1024.0), (29000.0, 31001.0)]
    >>> levels_between(0, 0.9, whole=False)
    (0.0, 1.0)
    """
    top = high + whole  # the values themselves stay below the upper end
    bits = 2.0 ** math.ceil(math.log2(top)) if top > 0 else 1.0
    bits = max(bits, 256.0) if whole else bits
    if low >= 0 and (high - low >= bits / 2 or low == high):
        return 0.0, bits
    return float(low), float(top if top > low else low + 1)


def to_bytes(values: np.ndarray, levels: tuple[float, float]) -> np.ndarray:
    """Values as uint8: those from one level to the other in 256 equal steps, those outside as its ends."""
    low, high = levels
    # In double precision, so that 16 bits over all of their range become their upper 8 exactly.
    scaled: np.ndarray = np.floor((values.astype(np.float64) - low) / (high - low) * 256).clip(0, 255)
    return scaled.astype(np.uint8)


def flatten(image: Image.Image, background: tuple[int, ...]) -> Image.Image:
    """An image without transparency: over a colour, or as the colours beneath it for ``()``."""
    if not is_transparent(image):
        return image
    image = image.convert("RGBA")  # Pillow warns of a palette's transparency on the direct way
    if background:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image)
    return image.convert("RGB")


def thumbnails(pixels_NHWC: Tensor) -> Tensor:
    """Means of grey in 8 x 8 cells of images, uint8 (N, 64)."""
    grey_N1HW = pixels_NHWC.float().mean(3).unsqueeze(1)
    return functional.adaptive_avg_pool2d(grey_N1HW, COARSE).flatten(1).round().to(torch.uint8)


def _raw_mode(image: Image.Image) -> str:
    """What Pillow calls the channels that are in a file: RGB;16B for colours of 16 bits, the upper 8 first."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return ""
    arguments = image.tile[0][3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _colour_values(image: Image.Image) -> np.ndarray:
    """Pillow unpacks one byte of two. Told that their order is the other one, it takes the lower ones."""
    assert isinstance(image, ImageFile.ImageFile)
    assert image.fp is not None  # it is not decoded yet
    image.fp.seek(0)
    content = image.fp.read()
    upper, lower = (_unpacked(content, image.format or "", swap=swap) for swap in (False, True))
    return upper.astype(np.uint16) * 256 + lower


def _unpacked(content: bytes, kind: str, *, swap: bool) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=[kind]) as image:
        assert isinstance(image, ImageFile.ImageFile)
        if swap:
            image.tile = [tile._replace(args=_swapped(tile.args)) for tile in image.tile]
        return np.asarray(image)


def _swapped(arguments: Any) -> Any:
    if isinstance(arguments, tuple):
        return (OTHER_HALF[arguments[0]], *arguments[1:])
    return OTHER_HALF[arguments]
