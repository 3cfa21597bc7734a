"""Samples of any modality, read by row as one tensor a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import override


class Samples(ABC):
    """N samples of one modality, as a source holds them; a Preprocessing makes a network's input of what is read."""

    streamed = False
    """Whether reading is slow enough to be worth worker processes."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one sample; -1 where the samples differ."""

    @abstractmethod
    def read(self, rows_B: Tensor) -> Tensor:
        """Some samples as one tensor (B, ...), on the device that ``to`` moved them to.

        Raises:
            DataError: a sample cannot be read; it is named.
        """

    @abstractmethod
    def take(self, rows: Tensor) -> Samples:
        """Some samples as a view: nothing is copied."""

    @abstractmethod
    def show(self, row: int) -> str:
        """What there is of a sample to read for people; empty where there is nothing but numbers or pixels."""

    def to(self, device: torch.device) -> Samples:
        """The same samples on a device, where they can lie there whole; else as they are."""
        return self


class MemorySamples(Samples):
    """Samples in one tensor: images uint8 (N, H, W, channels), features and rows of tables float32 (N, F).

    ``rows`` picks and orders some of them.
    """

    def __init__(self, values_N: Tensor, rows: Tensor | None = None) -> None:
        self.values_N = values_N
        self.rows = torch.arange(len(values_N)) if rows is None else rows

    @override
    def __len__(self) -> int:
        return len(self.rows)

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values_N.shape[1:])

    @override
    def read(self, rows_B: Tensor) -> Tensor:
        return self.values_N[self.rows[rows_B].to(self.values_N.device)]

    @override
    def take(self, rows: Tensor) -> MemorySamples:
        return MemorySamples(self.values_N, self.rows[rows])

    @override
    def show(self, row: int) -> str:
        return ""

    @override
    def to(self, device: torch.device) -> MemorySamples:
        return MemorySamples(self.values_N.to(device), self.rows)
