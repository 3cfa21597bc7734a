"""Clusters that are not computed: given ones, and random ones as the control."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from coterie.errors import PartitionError
from coterie.partition.value import Partition


def given_partition(group_of_class: Sequence[str] | Sequence[int] | ArrayLike, n_classes: int) -> Partition:
    """The classes that share a group's name or number are a cluster.

    Args:
        group_of_class: one group per class, in the order of the classes.
        n_classes: C.

    Raises:
        PartitionError: another number of groups than of classes.
    """
    groups = np.asarray(group_of_class)
    if groups.shape != (n_classes,):
        raise PartitionError(f"{groups.size} groups given for {n_classes} classes; allowed: one for each class")
    return Partition.from_assignment(groups)


def random_partition(size_S: ArrayLike, seed: int = 0) -> Partition:
    """Clusters of the given sizes with classes drawn at random: the control for any partition with those sizes.

    Raises:
        PartitionError: a size below 1.
    """
    sizes = np.asarray(size_S)
    if sizes.ndim != 1 or sizes.size == 0 or sizes.dtype.kind not in "iu" or sizes.min() < 1:
        raise PartitionError(f"sizes of clusters must be whole numbers of at least 1; got {sizes.tolist()}")
    cluster_C = np.repeat(np.arange(len(sizes)), sizes)
    return Partition.from_assignment(np.random.default_rng(seed).permutation(cluster_C))
