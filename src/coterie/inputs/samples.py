"""Samples of any modality, read by row as one tensor a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from coterie.arrays import IntArray


class Samples(ABC):
    """N samples of one modality, as a source holds them; a Preprocessing makes a network's input of what is read."""

    streamed = False
    """Whether samples are decoded on reading, which worker processes speed up."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample; -1 for an axis along which samples differ."""

    @abstractmethod
    def read(self, rows_B: Tensor) -> Tensor:
        """Some samples as one tensor (B, ...), on the device that ``to`` moved them to.

        Raises:
            DataError: a sample cannot be read; it is named.
        """

    @abstractmethod
    def take(self, rows: Tensor) -> Samples:
        """A view of some samples; nothing is copied."""

    @abstractmethod
    def show(self, row: int) -> str:
        """A sample as readable text; empty for pixels and plain numbers."""

    def shortened(self) -> list[int]:
        """Rows of samples of which only a part was kept."""
        return []

    def lengths(self) -> Tensor:
        """Length of each sample along the axis in which samples differ, int64 (N,); 1 where they do not."""
        return torch.ones(len(self), dtype=torch.int64)

    def to(self, device: torch.device) -> Samples:
        """The samples on a device if they are one tensor; else unchanged."""
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


class RaggedSamples(Samples):
    """Sequences of numbers of any length, such as tokens: sample k is ``token_T[start_K[k] : start_K[k + 1]]``.

    They are read as int64 (B, L), L the longest of the batch, and at least 1; shorter ones end in -1. ``shortened_K``
    marks the sequences of which only a part is kept; default: none.
    """

    def __init__(
        self, token_T: Tensor, start_K: Tensor, rows: Tensor | None = None, shortened_K: Tensor | None = None
    ) -> None:
        n_sequences = len(start_K) - 1
        self.token_T = token_T
        self.start_K = start_K
        self.rows = torch.arange(n_sequences) if rows is None else rows
        self.shortened_K = torch.zeros(n_sequences, dtype=torch.bool) if shortened_K is None else shortened_K

    @classmethod
    def cut(cls, token_T: IntArray, start_K: IntArray, longest: int) -> RaggedSamples:
        """Keep the first ``longest`` numbers of each sequence."""
        length_N = np.diff(start_K)
        place_T = np.arange(len(token_T)) - np.repeat(start_K[:-1], length_N)
        starts = np.concatenate([[0], np.cumsum(np.minimum(length_N, longest))])
        # One more at the end, so that there is something to read where all sequences are empty.
        kept_T = np.append(token_T[place_T < longest], -1).astype(np.int32)
        shortened_K = torch.from_numpy(length_N > longest)
        return cls(torch.from_numpy(kept_T), torch.from_numpy(starts.astype(np.int64)), shortened_K=shortened_K)

    @override
    def __len__(self) -> int:
        return len(self.rows)

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return (-1,)

    @override
    def read(self, rows_B: Tensor) -> Tensor:
        rows_B = self.rows[rows_B].to(self.start_K.device)
        first_B, end_B = self.start_K[rows_B], self.start_K[rows_B + 1]
        longest = max([1, *(end_B - first_B).tolist()])
        place_BL = first_B[:, None] + torch.arange(longest, device=first_B.device)
        # Places behind the end are masked below; here they only must not leave the tensor.
        token_BL = self.token_T[place_BL.clamp(max=len(self.token_T) - 1)].long()
        return torch.where(place_BL < end_B[:, None], token_BL, -1)

    @override
    def take(self, rows: Tensor) -> RaggedSamples:
        return RaggedSamples(self.token_T, self.start_K, self.rows[rows], self.shortened_K)

    @override
    def show(self, row: int) -> str:
        return ""

    @override
    def shortened(self) -> list[int]:
        rows: list[int] = torch.nonzero(self.shortened_K[self.rows]).flatten().tolist()
        return rows

    @override
    def lengths(self) -> Tensor:
        return self.start_K.diff().cpu()[self.rows]

    @override
    def to(self, device: torch.device) -> RaggedSamples:
        # The rows stay on the CPU, where batches are drawn.
        return RaggedSamples(self.token_T.to(device), self.start_K.to(device), self.rows, self.shortened_K)


class DescribedSamples(Samples):
    """Samples with readable descriptions; ``describe`` takes the row that a sample had before any was taken."""

    def __init__(self, samples: Samples, describe: Callable[[int], str], rows: Tensor | None = None) -> None:
        self.samples = samples
        self.describe = describe
        self.rows = torch.arange(len(samples)) if rows is None else rows

    @override
    def __len__(self) -> int:
        return len(self.samples)

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return self.samples.shape

    @override
    def read(self, rows_B: Tensor) -> Tensor:
        return self.samples.read(rows_B)

    @override
    def take(self, rows: Tensor) -> DescribedSamples:
        return DescribedSamples(self.samples.take(rows), self.describe, self.rows[rows])

    @override
    def show(self, row: int) -> str:
        return self.describe(int(self.rows[row]))

    @override
    def shortened(self) -> list[int]:
        return self.samples.shortened()

    @override
    def lengths(self) -> Tensor:
        return self.samples.lengths()

    @override
    def to(self, device: torch.device) -> DescribedSamples:
        return DescribedSamples(self.samples.to(device), self.describe, self.rows)
