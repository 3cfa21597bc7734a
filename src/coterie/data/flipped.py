"""Mirrored images, for predictions that average both views."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from coterie.inputs import Samples


class FlippedImages(Samples):
    """The same images, left and right exchanged when they are read."""

    def __init__(self, images: Samples) -> None:
        self.images = images

    @override
    def __len__(self) -> int:
        return len(self.images)

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    @override
    def read(self, rows_B: Tensor) -> Tensor:
        return self.images.read(rows_B).flip(2)

    @override
    def take(self, rows: Tensor) -> FlippedImages:
        return FlippedImages(self.images.take(rows))

    @override
    def show(self, row: int) -> str:
        return self.images.show(row)
