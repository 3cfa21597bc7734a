"""Images: uint8 pixels to normalised ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from coterie.errors import DataError, InputError
from coterie.inputs.features import LARGEST, as_numbers, check_scale
from coterie.inputs.preprocessing import Preprocessing
from coterie.inputs.samples import MemorySamples, Samples
from coterie.vocabulary import Modality

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
# Of one image: 4,096 x 4,096 pixels in colour, and more.
MOST_VALUES = 2**26
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class ImagePreprocessing(Preprocessing):
    """How an image becomes a network's input: size in pixels, channels (1 grey, 3 RGB), and the mean and standard
    deviation per channel, in units of 0 to 255, of the training images, or of those that its weights were trained on.

    ``resize``: what a decoded image is resized to before its centre is cut out, as a network brings it: its shorter
    side, or height and width; empty: the largest centred part of the right proportions is taken. ``origin``: where
    these values come from; empty: measured. ``middle``: how the place of the centre is made a whole number.

    ``levels``: the values that are black and white in images of more than 8 bits; None: 16 bits over all of their
    range, and 32 bits are refused; empty: to be found in training images. ``background``: the colour behind transparent
    pixels; empty: transparency is dropped.
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: tuple[int, ...] = ()
    interpolation: Interpolation = "bilinear"
    middle: Literal["rounded", "floored"] = "rounded"
    origin: str = ""
    levels: tuple[float, ...] | None = None
    background: tuple[int, ...] = ()
    kind: Literal["image"] = "image"
    modality: ClassVar[Modality] = "image"

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or math.prod(self.shape) > MOST_VALUES:
            raise InputError(f"images of (height, width, channels) {self.shape} have no values, or more than anybody's")
        check_scale(self.mean, self.std)
        if len(self.mean) != self.channels:
            raise InputError(f"images of {self.channels} channels need as many means; got {len(self.mean)}")
        if self.levels and (len(self.levels) != 2 or not -LARGEST < self.levels[0] < self.levels[1] < LARGEST):
            raise InputError(f"levels are two numbers, the lower one first; got {self.levels}")
        if self.background and (len(self.background) != 3 or not set(self.background) <= set(range(256))):
            raise InputError(f"a background is red, green and blue from 0 to 255; got {self.background}")

    @classmethod
    def measure(cls, images: Samples, sample: int = 10_000) -> ImagePreprocessing:
        """Mean and standard deviation over ``sample`` images, evenly spaced (or all, where there are fewer).

        Raises:
            DataError: these are no images.
        """
        first = images.read(torch.tensor([0]))
        if first.dtype != torch.uint8 or first.ndim != 4:
            raise DataError(
                f"images must be uint8 of shape (N, height, width, channels); got {first.dtype} of shape "
                f"{(len(images), *images.shape)}"
            )
        height, width, channels = images.shape
        # In double precision: a sum over many pixels, and a difference of large squares.
        total = torch.zeros(channels, dtype=torch.float64)
        squares = torch.zeros(channels, dtype=torch.float64)
        n_images = min(sample, len(images))
        # Evenly spaced: folders come sorted by class, and the first classes are not the data.
        for rows in torch.linspace(0, len(images) - 1, n_images).round().long().split(512):
            pixels = images.read(rows).to(torch.float64)
            total += pixels.sum((0, 1, 2))
            squares += pixels.square().sum((0, 1, 2))
        mean = total / (n_images * height * width)
        # A constant channel has no spread to divide by: leave its scale alone.
        std = (squares / (n_images * height * width) - mean.square()).clamp(min=0).sqrt()
        std = torch.where(std > 0, std, torch.ones_like(std))
        return cls(height, width, channels, tuple(mean.tolist()), tuple(std.tolist()), background=WHITE)

    @property
    def described(self) -> str:
        """Size, crop, interpolation, mean and standard deviation in words."""
        sides = " x ".join(map(str, self.resize)) if len(self.resize) == 2 else f"shorter side to {self.resize[0]}"
        mean, std = (", ".join(f"{value / 255:.3f}" for value in values) for values in (self.mean, self.std))
        centre = f"centre {self.width} x {self.height}"
        return f"{sides} pixels ({self.interpolation}), {centre}, mean {mean}, std {std}, {self.origin}"

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return self.height, self.width, self.channels

    @property
    @override
    def wanted(self) -> str:
        return f"images of (height, width, channels) {self.shape}"

    @override
    def __call__(self, batch: Tensor) -> Tensor:
        """uint8 (B, H, W, channels) to normalised float32 (B, channels, H, W), in channels_last memory order."""
        mean = torch.tensor(self.mean, device=batch.device)
        # A division per channel, not per pixel.
        scale = 1.0 / torch.tensor(self.std, device=batch.device)
        # A permuted NHWC tensor *is* an NCHW tensor in channels_last order: nothing is moved.
        return ((batch - mean) * scale).permute(0, 3, 1, 2)

    @override
    def example(self) -> Tensor:
        return torch.randn((2, self.channels, self.height, self.width), generator=torch.Generator().manual_seed(0))

    @override
    def samples(self, raw: Any) -> MemorySamples:
        """uint8 of shape (N, H, W, channels), (N, H, W) where they are grey, or (H, W, channels) of one image."""
        values = as_numbers(raw, self._taken)
        if values.shape == self.shape:
            values = values[None]
        if values.ndim == 3 and self.channels == 1:
            values = values[..., None]
        if values.ndim != 4 or values.dtype != np.uint8 or len(values) == 0:
            raise InputError(f"the networks take {self._taken}; got {values.dtype} of shape {values.shape}")
        # torch knows no negative strides, such as those of BGR read as RGB, and nothing that cannot be written.
        return MemorySamples(torch.from_numpy(np.require(values, requirements=["C", "W"])))

    @property
    def _taken(self) -> str:
        return (
            f"images: uint8 of shape (N, {self.height}, {self.width}, {self.channels}), N at least 1, or PIL images, "
            "bytes, paths"
        )


def prescribed_image(form: Preprocessing | None) -> ImagePreprocessing | None:
    """A preprocessing of images that comes with a network; None for one that is measured, and for other modalities."""
    return form if isinstance(form, ImagePreprocessing) and form.resize else None
