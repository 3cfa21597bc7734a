"""Trained base -> one vector per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from coterie.errors import PartitionError

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class LabelEmbedding:
    """One vector per class: ``vectors_CD`` is float of shape (C classes, D dimensions).

    Raises:
        PartitionError: not a finite C x D matrix, or a class whose vector is zero and so has no direction.
    """

    vectors_CD: FloatArray

    def __post_init__(self) -> None:
        if self.vectors_CD.ndim != 2 or 0 in self.vectors_CD.shape:
            raise PartitionError(f"label embeddings must be a C x D matrix; got shape {self.vectors_CD.shape}")
        bad_rows = np.flatnonzero(~np.isfinite(self.vectors_CD).all(axis=1))
        if bad_rows.size:
            raise PartitionError(f"label embeddings of classes {bad_rows[:10].tolist()} are not finite")
        zero_rows = np.flatnonzero(~self.vectors_CD.any(axis=1))
        if zero_rows.size:
            raise PartitionError(f"label embeddings of classes {zero_rows[:10].tolist()} are zero: never trained?")

    @classmethod
    def from_head(cls, head: nn.Linear) -> LabelEmbedding:
        """The weight rows of a linear head: logits are inner products with them (JKSCI 26(1), 2021)."""
        return cls(head.weight.detach().cpu().double().numpy())

    def similarity_CC(self) -> FloatArray:
        """Cosine similarity of every pair of classes, in [-1, 1]."""
        unit_CD = self.vectors_CD / np.linalg.norm(self.vectors_CD, axis=1, keepdims=True)
        return np.clip(unit_CD @ unit_CD.T, -1.0, 1.0)
