"""Clusters that overlap: classes join the clusters for which the base takes their samples."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from coterie.arrays import FloatArray, IntArray
from coterie.errors import PartitionError
from coterie.partition.value import Partition
from coterie.system.units import how_many


def join_confused(partition: Partition, proba_NC: FloatArray, label_N: IntArray, overlap: float) -> Partition:
    """The partition as a cover: classes join further clusters, to which the base gives much of their samples' mass.

    Pairs of class and cluster are taken in the order of the probability that samples of the class give the cluster,
    summed over validation.

    Args:
        partition: one, not several side by side.
        proba_NC: the base's probabilities on validation samples, of shape (N, C).
        label_N: their true classes.
        overlap: memberships to add, as a share of C; fewer are added where the others have no probability.

    Raises:
        PartitionError: a share below 0 or above S - 1, at which every class is in every cluster.
    """
    check_overlap(overlap, partition.n_clusters)
    if overlap == 0:
        return partition
    n_classes = partition.n_classes
    ones = np.ones(len(label_N))
    true_CN = csr_array((ones, (label_N, np.arange(len(label_N)))), shape=(n_classes, len(label_N)))
    # A sample whose likeliest cluster lacks its class is lost to the specialists: the pairs that lose most come first.
    lost_SC = np.asarray(true_CN @ partition.mass_NS(proba_NC)).T
    member_SC = partition.member_SC
    lost_SC[member_SC] = 0
    wanted = np.argsort(-lost_SC, axis=None, kind="stable")[: round(overlap * n_classes)]
    joining_SC = np.zeros_like(member_SC)
    joining_SC.flat[wanted] = lost_SC.flat[wanted] > 0
    return Partition(member_SC | joining_SC)


def check_overlap(overlap: float, n_clusters: int) -> None:
    """Raise PartitionError unless each class can join ``overlap`` further clusters on average."""
    if not 0 <= overlap <= n_clusters - 1:
        raise PartitionError(
            f"an overlap of {overlap} is not allowed for {how_many(n_clusters, 'cluster')}; "
            f"allowed: 0 to {n_clusters - 1}"
        )
