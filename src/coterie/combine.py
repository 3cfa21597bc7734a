"""Base and specialist probabilities -> one distribution. Arrays only.

Specialist values are packed: one column per class of each cluster (see Partition.packed_class_M).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from coterie.errors import InputError
from coterie.partition import Partition

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
Combiner = Literal["hard", "compose"]


def route(base_proba_NC: FloatArray, partition: Partition) -> IntArray:
    """The cluster with the largest mass under the base, of shape (N,)."""
    return partition.mass_NS(base_proba_NC).argmax(axis=1)


def packed_softmax(packed_logits_NM: FloatArray, partition: Partition) -> FloatArray:
    """P_specialist(class | cluster): each cluster's columns sum to 1. Shape (N, M)."""
    proba_NM = np.empty_like(packed_logits_NM)
    for cluster in range(partition.n_clusters):
        columns = partition.columns(cluster)
        proba_NM[:, columns] = softmax(packed_logits_NM[:, columns], axis=1)
    return proba_NM


def combine(
    combiner: Combiner,
    base_proba_NC: FloatArray,
    packed_proba_NM: FloatArray,
    partition: Partition,
    cluster_N: IntArray,
    routed_N: BoolArray,
) -> FloatArray:
    """The ensemble's probabilities, of shape (N, C), rows summing to 1. Rows that are not routed are the base's.

    ``hard``: the specialist of ``cluster_N`` decides alone; classes outside its cluster get 0 (the paper's rule).
    ``compose``: within the cluster, P_base(cluster) * P_specialist(class | cluster); outside it, the base's values.
    Only the columns of each row's cluster are read from ``packed_proba_NM``.

    Raises:
        InputError: shapes disagree.
    """
    n = len(base_proba_NC)
    if packed_proba_NM.shape != (n, int(partition.size_S.sum())) or base_proba_NC.shape[1] != partition.n_classes:
        raise InputError(
            f"base {base_proba_NC.shape} and specialists {packed_proba_NM.shape} do not fit a partition of "
            f"{partition.n_classes} classes into sizes {partition.size_S.tolist()}"
        )
    proba_NC = base_proba_NC.copy()
    for cluster in range(partition.n_clusters):
        rows = np.flatnonzero(routed_N & (cluster_N == cluster))
        classes = partition.classes(cluster)
        conditional = packed_proba_NM[rows, partition.columns(cluster)]
        if combiner == "compose":
            conditional = conditional * proba_NC[np.ix_(rows, classes)].sum(axis=1, keepdims=True)
        else:
            proba_NC[rows] = 0.0
        proba_NC[np.ix_(rows, classes)] = conditional
    return proba_NC
