"""One vector per class: from a trained base, its features, its confusions, or the user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coterie.arrays import FloatArray, IntArray
from coterie.errors import DataError, PartitionError
from coterie.label_file import read_vectors

if TYPE_CHECKING:  # torch takes seconds to import, and arrays need none
    from torch import nn


@dataclass(frozen=True, eq=False)
class LabelEmbedding:
    """One vector per class: ``vectors_CD`` is float of shape (C classes, D dimensions).

    The constructor takes vectors from any source, such as text embeddings of the class names.

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
    def from_head(cls, head: nn.Linear, *, bias: bool = False) -> LabelEmbedding:
        """The weight rows of a linear head: logits are inner products with them (JKSCI 26(1), 2021).

        Args:
            head: the base's last layer.
            bias: append the bias as one more dimension, as if every feature vector ended in a 1.
        """
        weight_CD = head.weight.detach().cpu().double().numpy()
        if bias and head.bias is not None:
            weight_CD = np.column_stack([weight_CD, head.bias.detach().cpu().double().numpy()])
        return cls(weight_CD)

    @classmethod
    def from_class_means(cls, feature_ND: FloatArray, label_N: IntArray, n_classes: int) -> LabelEmbedding:
        """The mean feature vector of each class, over the samples given, less the mean of these means.

        Raises:
            PartitionError: a class without a sample, or a label outside 0 to C - 1.
        """
        count_C = count_samples(label_N, n_classes)
        sum_CD = np.zeros((n_classes, feature_ND.shape[1]))
        np.add.at(sum_CD, label_N, feature_ND)
        mean_CD = sum_CD / count_C[:, None]
        # Features after a ReLU share a large common direction, which makes all classes look alike.
        return cls(mean_CD - mean_CD.mean(axis=0))

    @classmethod
    def from_confusion(cls, proba_NC: FloatArray, label_N: IntArray) -> LabelEmbedding:
        """The rows of the soft confusion matrix: the mean distribution that the base gives to samples of each class.

        The cosine of two vectors is the overlap of the two distributions (Bhattacharyya 1943).

        Raises:
            PartitionError: a class without a sample, or a label outside 0 to C - 1.
        """
        n_classes = proba_NC.shape[1]
        count_C = count_samples(label_N, n_classes)
        sum_CC = np.zeros((n_classes, n_classes))
        np.add.at(sum_CC, label_N, proba_NC)
        # Roots have length 1, and their inner product is Bhattacharyya's coefficient.
        return cls(np.sqrt(sum_CC / count_C[:, None]))

    @classmethod
    def from_logits(cls, logits_NC: FloatArray) -> LabelEmbedding:
        """Vectors whose cosines are the correlations of the classes' logits over samples. Needs no labels.

        For bases whose head is not available: the logits of classes that the base confuses rise and fall together. The
        vectors have min(N, C) dimensions.

        Raises:
            PartitionError: a class whose logit is the same for all samples.
        """
        n_samples, n_classes = logits_NC.shape
        # Softmax ignores one number added to a sample's logits, so row means are noise here.
        mean_C = sum(_less_row_means(logits_NC[rows]).sum(axis=0, dtype=np.float64) for rows in _blocks(logits_NC))
        mean_C = (mean_C / n_samples).astype(np.float32)
        if n_samples <= n_classes:
            return cls((_less_row_means(logits_NC) - mean_C).T)
        # The covariance has the cosines that all samples have, at C x C numbers however many samples there are.
        covariance_CC = np.zeros((n_classes, n_classes))
        for rows in _blocks(logits_NC):
            block_BC = _less_row_means(logits_NC[rows]) - mean_C
            covariance_CC += block_BC.T @ block_BC
        variance_C = covariance_CC.diagonal()
        # Not exactly 0, since means and sums are rounded.
        constant = np.flatnonzero(variance_C <= 1e-12 * variance_C.max())
        if constant.size:
            raise PartitionError(f"the logits of classes {constant[:10].tolist()} are the same for all samples")
        # The root of the covariance: its rows have the covariances as inner products.
        value_D, vector_CD = np.linalg.eigh(covariance_CC)
        return cls(vector_CD * np.sqrt(np.maximum(value_D, 0.0)))

    def mixed_with(self, other: LabelEmbedding, share: float = 0.5) -> LabelEmbedding:
        """An embedding whose cosines are the weighted mean of the two embeddings' cosines.

        Args:
            other: of the same classes.
            share: weight of ``other``, from 0 to 1.

        Raises:
            PartitionError: numbers of classes that differ, or a share outside 0 to 1.
        """
        if len(self.vectors_CD) != len(other.vectors_CD):
            raise PartitionError(
                f"embeddings of {len(self.vectors_CD)} and of {len(other.vectors_CD)} classes cannot be mixed"
            )
        if not 0 <= share <= 1:
            raise PartitionError(f"a share of {share} is not allowed; allowed: 0 to 1")
        # The inner product of joined vectors is the sum of the parts', so each weight is split as a root.
        return LabelEmbedding(np.column_stack([np.sqrt(1 - share) * self.unit_CD(), np.sqrt(share) * other.unit_CD()]))

    def unit_CD(self) -> FloatArray:
        """The vectors scaled to length 1."""
        return self.vectors_CD / np.linalg.norm(self.vectors_CD, axis=1, keepdims=True)

    def similarity_CC(self) -> FloatArray:
        """Cosine similarity of every pair of classes, in [-1, 1]."""
        unit_CD = self.unit_CD()
        return np.clip(unit_CD @ unit_CD.T, -1.0, 1.0)


def read_class_vectors(file: Path, n_classes: int) -> FloatArray:
    """The user's vectors from a file, one row for each class in the order of the classes.

    Raises:
        DataError: the file cannot be read, or has another number of rows.
    """
    vectors_CD = read_vectors(file)
    if vectors_CD.ndim != 2 or len(vectors_CD) != n_classes:
        raise DataError(f"{file} has shape {vectors_CD.shape}; {n_classes} vectors are needed, a row for each class")
    return np.asarray(vectors_CD, dtype=np.float64)


def _blocks(logits_NC: FloatArray) -> Iterator[slice]:
    step = max(1, 2**24 // logits_NC.shape[1])
    return (slice(start, start + step) for start in range(0, len(logits_NC), step))


def _less_row_means(logits_BC: FloatArray) -> NDArray[np.float32]:
    return (logits_BC - logits_BC.mean(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)


def count_samples(label_N: IntArray, n_classes: int) -> IntArray:
    """Samples of each class, all above zero.

    Raises:
        PartitionError: a class without a sample, or a label outside 0 to C - 1.
    """
    if len(label_N) and not 0 <= int(label_N.min()) <= int(label_N.max()) < n_classes:
        raise PartitionError(
            f"labels from {label_N.min()} to {label_N.max()} do not fit {n_classes} classes; allowed: 0 to "
            f"{n_classes - 1}"
        )
    count_C = np.bincount(label_N, minlength=n_classes)
    missing = np.flatnonzero(count_C == 0)
    if missing.size:
        raise PartitionError(f"no samples of classes {missing[:10].tolist()}: they have no embedding")
    return count_C
