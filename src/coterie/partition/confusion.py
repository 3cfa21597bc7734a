"""Clusters of classes that the base confuses on validation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse

from coterie.arrays import FloatArray, IntArray
from coterie.errors import PartitionError
from coterie.partition.merge import check_max_size, merge_greedily
from coterie.partition.value import Partition, check_n_clusters


def confusion_counts(proba_NC: FloatArray, label_N: IntArray, *, soft: bool = False) -> csr_array:
    """How often, of shape (C, C), each true class (row) is taken for each other (column).

    Args:
        proba_NC: the base's probabilities on labelled samples.
        label_N: true classes.
        soft: sum probabilities instead of counting the likeliest class, which says more where samples are few.
    """
    n_samples, n_classes = proba_NC.shape
    true_CN = csr_array((np.ones(n_samples), (np.asarray(label_N), np.arange(n_samples))), shape=(n_classes, n_samples))
    if soft:
        return csr_array(true_CN @ proba_NC)
    ones = np.ones(n_samples)
    predicted_NC = csr_array((ones, (np.arange(n_samples), proba_NC.argmax(axis=1))), shape=(n_samples, n_classes))
    return csr_array(true_CN @ predicted_NC)


def confusion_partition(
    confusion_CC: ArrayLike | csr_array, n_clusters: int | None = None, max_size: int | None = None
) -> Partition:
    """Join the two clusters that are confused most, until S are left or the cap stops all that are confused.

    Args:
        confusion_CC: counts or soft counts, rows true and columns predicted; dense or sparse.
        n_clusters: S; default: as many as the cap leaves.
        max_size: classes per cluster at most; default: twice C / S.

    Raises:
        PartitionError: neither S nor a cap; S out of range; a cap that cannot hold all classes; no square matrix of
            counts.
    """
    counts_CC = _checked(confusion_CC)
    n_classes = counts_CC.shape[0]
    if n_clusters is None and max_size is None:
        raise PartitionError("confusion-driven clusters need a number of clusters or a largest size; both are None")
    if n_clusters is not None:
        check_n_clusters(n_clusters, n_classes)
    # Without a cap the cluster that is confused most takes in all others, one class after the other.
    if max_size is None and n_clusters is not None:
        max_size = min(n_classes, 2 * -(-n_classes // n_clusters))
    if max_size is not None:
        check_max_size(max_size, n_clusters, n_classes)
    # A pair is confused in both directions, and a cluster must serve both.
    weight_CC = csr_array(counts_CC + counts_CC.T)
    return Partition.from_assignment(merge_greedily(weight_CC, n_clusters, max_size, "sum"))


def _checked(confusion_CC: Any) -> csr_array:
    given: Any = confusion_CC if issparse(confusion_CC) else np.asarray(confusion_CC, dtype=np.float64)
    counts_CC = csr_array(given)
    if counts_CC.ndim != 2 or counts_CC.shape[0] != counts_CC.shape[1] or counts_CC.shape[0] == 0:
        raise PartitionError(f"a confusion matrix must be square; got shape {counts_CC.shape}")
    if counts_CC.nnz and not (np.isfinite(counts_CC.data).all() and counts_CC.data.min() >= 0):
        raise PartitionError("a confusion matrix holds counts: finite numbers of at least 0")
    return counts_CC
