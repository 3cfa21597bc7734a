"""What every data source returns: three disjoint splits of labelled images, and how to feed them to a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from coterie.errors import DataError
from coterie.labels import LabelSpace


class Images(ABC):
    """N images of one size, read by row as uint8 of shape (B, H, W, channels)."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""

    @abstractmethod
    def read(self, rows_B: Tensor) -> Tensor:
        """The images of some rows: uint8 of shape (B, H, W, channels).

        Raises:
            DataError: an image cannot be decoded; it is named.
        """

    @abstractmethod
    def take(self, rows: Tensor) -> Images:
        """The images of some rows as a view: no pixels are copied."""


class MemoryImages(Images):
    """Decoded images in memory: ``pixels_NHWC`` is uint8; ``rows`` picks and orders some of them."""

    def __init__(self, pixels_NHWC: Tensor, rows: Tensor | None = None) -> None:
        if pixels_NHWC.dtype != torch.uint8 or pixels_NHWC.ndim != 4:
            raise DataError(
                "images must be uint8 of shape (N, height, width, channels); "
                f"got {pixels_NHWC.dtype} of shape {tuple(pixels_NHWC.shape)}"
            )
        self.pixels_NHWC = pixels_NHWC
        self.rows = torch.arange(len(pixels_NHWC)) if rows is None else rows

    @override
    def __len__(self) -> int:
        return len(self.rows)

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self.pixels_NHWC.shape[1:]
        return height, width, channels

    @override
    def read(self, rows_B: Tensor) -> Tensor:
        return self.pixels_NHWC[self.rows[rows_B]]

    @override
    def take(self, rows: Tensor) -> MemoryImages:
        return MemoryImages(self.pixels_NHWC, self.rows[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """N labelled images. ``labels_N`` is int64, one class index per image.

    Raises:
        DataError: as many labels as images are needed, and at least one of each.
    """

    images: Images
    labels_N: Tensor

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels_N) or len(self.images) == 0:
            raise DataError(
                f"a split needs images and as many labels; got {len(self.images)} images, {len(self.labels_N)} labels"
            )

    def __len__(self) -> int:
        return len(self.labels_N)

    def of_classes(self, classes: np.ndarray) -> Split:
        """The images of some classes only, labelled by position in ``classes``."""
        position_C = torch.full((int(max(self.labels_N.max(), classes.max())) + 1,), -1, dtype=torch.int64)
        position_C[torch.from_numpy(classes)] = torch.arange(len(classes))
        local_N = position_C[self.labels_N]
        rows = torch.nonzero(local_N >= 0).squeeze(1)
        return Split(self.images.take(rows), local_N[rows])


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input: size in pixels, channels (1 grey, 3 RGB), and the mean and standard
    deviation per channel, in units of 0 to 255, of the training images.
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def measure(cls, images: Images, sample: int = 10_000) -> Preprocessing:
        """Mean and standard deviation over ``sample`` images, evenly spaced (or all, where there are fewer)."""
        height, width, channels = images.shape
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
        return cls(height, width, channels, tuple(mean.tolist()), tuple(std.tolist()))

    def example(self) -> Tensor:
        """Two made-up inputs of a network, always the same."""
        return torch.randn((2, self.channels, self.height, self.width), generator=torch.Generator().manual_seed(0))

    def __call__(self, pixels_BHWC: Tensor) -> Tensor:
        """uint8 (B, H, W, channels) to normalised float32 (B, channels, H, W), in channels_last memory order."""
        mean = torch.tensor(self.mean, device=pixels_BHWC.device)
        scale = 1.0 / torch.tensor(self.std, device=pixels_BHWC.device)
        # A permuted NHWC tensor *is* an NCHW tensor in channels_last order: nothing is moved.
        return ((pixels_BHWC - mean) * scale).permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class Splits:
    """Training, validation and test images of one task.

    ``flip`` says whether a mirrored image keeps its class; ``about`` is one sentence for people, with the source.

    Raises:
        DataError: a class without a training image, or an unknown class in a split; the class is named.
    """

    train: Split
    validation: Split
    test: Split
    labels: LabelSpace
    preprocessing: Preprocessing
    about: str
    flip: bool = True
    skipped: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        n_classes = len(self.labels)
        for name in ("train", "validation", "test"):
            labels_N = getattr(self, name).labels_N
            if int(labels_N.min()) < 0 or int(labels_N.max()) >= n_classes:
                raise DataError(f"{name} has a class index outside 0..{n_classes - 1}")
        count_C = torch.bincount(self.train.labels_N, minlength=n_classes)
        missing = torch.nonzero(count_C == 0).squeeze(1).tolist()
        if missing:
            raise DataError(
                f"no training image for {len(missing)} class(es): {', '.join(self.labels.of(missing[:10]))}"
            )
