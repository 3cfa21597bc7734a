"""The Partition value: S clusters of C classes, in memory of the order of C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, vstack

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.errors import PartitionError


@dataclass(frozen=True, eq=False)
class Partition:
    """S clusters of C classes, as a sparse bool matrix of shape (S, C); a dense one is taken and made sparse.

    Clusters may overlap: the partition is then a cover. The specialists' outputs are packed side by side in one array
    of M columns, M being the sum of the cluster sizes: cluster after cluster, and within a cluster in the order of the
    classes.

    Several partitions of the same classes can lie side by side (see ``stack``): ``layer_S`` is then the number of each
    cluster's partition; empty, there is one partition. The cluster of a sample or of a class is always one of the first
    partition's.

    Raises:
        PartitionError: an empty cluster, a class in no cluster, or not as many layers as clusters.

    Examples:
        >>> import numpy as np
        >>> partition = Partition.from_assignment([0, 0, 1, 1, 1])
        >>> partition.n_clusters, partition.n_classes
        (2, 5)
        >>> partition.classes(1).tolist()
        [2, 3, 4]
        >>> proba_NC = np.array([[0.4, 0.0, 0.3, 0.2, 0.1]])
        >>> partition.mass_NS(proba_NC).round(2).tolist()
        [[0.4, 0.6]]
        >>> partition.likeliest_N(partition.mass_NS(proba_NC)).tolist()
        [1]
    """

    # A matrix, so that the mass of all clusters is one product and covers need no second code path; sparse, so that a
    # million classes in ten thousand clusters take 8 MB and not 10 GB.
    membership_SC: Any  # csr_array of bool; typed loosely since a dense matrix is accepted too
    layer_S: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        given = self.membership_SC
        if getattr(given, "ndim", 0) != 2 or given.dtype != np.bool_:
            raise PartitionError(
                "a partition needs a boolean matrix of clusters x classes; "
                f"got {getattr(given, 'dtype', type(given).__name__)} of shape {getattr(given, 'shape', ())}"
            )
        membership_SC = csr_array(given)
        membership_SC.eliminate_zeros()
        membership_SC.sort_indices()
        object.__setattr__(self, "membership_SC", membership_SC)
        if len(self.layer_S) not in (0, self.n_clusters):
            raise PartitionError(f"{self.n_clusters} clusters need as many layers, or none; got {len(self.layer_S)}")
        empty = np.flatnonzero(np.diff(membership_SC.indptr) == 0)
        homeless = np.flatnonzero(np.bincount(membership_SC.indices, minlength=self.n_classes) == 0)
        if empty.size or homeless.size:
            raise PartitionError(
                "every cluster needs a class and every class a cluster; "
                f"empty clusters: {empty[:10].tolist()}, classes in none: {homeless[:10].tolist()}"
            )

    @classmethod
    def from_assignment(cls, cluster_of_class: ArrayLike) -> Self:
        """The partition with one cluster per class.

        Clusters are renumbered in the order of their first class, so that equal groupings give equal partitions.

        Examples:
            >>> Partition.from_assignment(["pet", "car", "pet"]).cluster_of_class_C.tolist()
            [0, 1, 0]
        """
        given_C = np.asarray(cluster_of_class)
        if given_C.ndim != 1 or given_C.size == 0:
            raise PartitionError(f"an assignment is a list of one cluster per class; got shape {given_C.shape}")
        _, first, inverse_C = np.unique(given_C, return_index=True, return_inverse=True)
        cluster_C = np.argsort(np.argsort(first))[inverse_C]
        sizes = np.bincount(cluster_C)
        shape = (len(sizes), len(given_C))
        order_C = np.argsort(cluster_C, kind="stable").astype(np.int32)
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        return cls(csr_array((np.ones(len(given_C), dtype=bool), order_C, start), shape=shape))

    @classmethod
    def stack(cls, partitions: Sequence[Partition]) -> Self:
        """Several partitions of the same classes side by side: a cover, in which every class is in one cluster of each.

        Raises:
            PartitionError: there is none, or they are of different classes.
        """
        if len({partition.n_classes for partition in partitions}) != 1:
            numbers = [partition.n_classes for partition in partitions]
            raise PartitionError(f"partitions side by side need the same classes; got numbers of classes {numbers}")
        layer_S = np.repeat(np.arange(len(partitions)), [partition.n_clusters for partition in partitions])
        return cls(csr_array(vstack([p.membership_SC for p in partitions])), tuple(layer_S.tolist()))

    @classmethod
    def from_members(cls, members: Sequence[Sequence[int]], n_classes: int, layer_S: tuple[int, ...] = ()) -> Self:
        """The partition, or cover, with the classes of each cluster given.

        Raises:
            PartitionError: a class outside 0 to C - 1, or no cluster.
        """
        outside = [label for classes in members for label in classes if not 0 <= label < n_classes]
        if outside or not members:
            raise PartitionError(
                f"{len(members)} clusters with classes {outside[:10]}; needed: clusters of classes from 0 to "
                f"{n_classes - 1}"
            )
        cluster_M = np.repeat(np.arange(len(members)), [len(classes) for classes in members])
        class_M = np.concatenate([np.asarray(classes, dtype=np.int64) for classes in members])
        ones = np.ones(len(class_M), dtype=bool)
        return cls(csr_array((ones, (cluster_M, class_M)), shape=(len(members), n_classes)), layer_S)

    @cached_property
    def layers(self) -> tuple[IntArray, ...]:
        """The clusters of each of the partitions that lie side by side."""
        layer_S = np.asarray(self.layer_S or (0,) * self.n_clusters)
        return tuple(np.flatnonzero(layer_S == layer) for layer in np.unique(layer_S))

    @property
    def n_clusters(self) -> int:
        """S."""
        return int(self.membership_SC.shape[0])

    @property
    def n_classes(self) -> int:
        """C."""
        return int(self.membership_SC.shape[1])

    @property
    def overlaps(self) -> bool:
        """Whether a class is in several clusters: a cover rather than a partition."""
        return len(self.packed_class_M) > self.n_classes

    @cached_property
    def member_SC(self) -> BoolArray:
        """The membership as a dense matrix: S x C bytes, so for small partitions."""
        return self.membership_SC.toarray()

    @cached_property
    def size_S(self) -> IntArray:
        """Number of classes in each cluster."""
        return np.diff(self.membership_SC.indptr)

    @cached_property
    def cluster_of_class_C(self) -> IntArray:
        """The cluster of each class; of several, the first."""
        cluster_C = np.empty(self.n_classes, dtype=np.int64)
        # Assigned from the last cluster to the first, so that the first one stays.
        cluster_C[self.packed_class_M[::-1]] = np.repeat(np.arange(self.n_clusters), self.size_S)[::-1]
        return cluster_C

    @property
    def packed_class_M(self) -> IntArray:
        """The class of each packed column."""
        return self.membership_SC.indices

    def classes(self, cluster: int) -> IntArray:
        """The classes of a cluster, ascending: global index by cluster-local index."""
        return self.packed_class_M[self.columns(cluster)]

    def columns(self, cluster: int) -> slice:
        """The packed columns of a cluster."""
        start = self.membership_SC.indptr
        return slice(int(start[cluster]), int(start[cluster + 1]))

    def holds(self, cluster_N: ArrayLike, class_N: ArrayLike) -> BoolArray:
        """Whether each cluster holds the class beside it, of shape (N,)."""
        # Without overlaps there is no need for the dense matrix, which many classes could not hold.
        if not self.overlaps:
            return self.cluster_of_class_C[np.asarray(class_N)] == np.asarray(cluster_N)
        return self.member_SC[np.asarray(cluster_N), np.asarray(class_N)]

    def own_rows(self, cluster: int, label_N: IntArray) -> tuple[IntArray, IntArray]:
        """The samples of a cluster's classes, and the cluster-local index of each one's class; both of shape (R,)."""
        row_R = np.flatnonzero(self.holds(np.full(len(label_N), cluster), label_N))
        return row_R, np.searchsorted(self.classes(cluster), label_N[row_R])

    def mass_NS(self, proba_NC: FloatArray) -> FloatArray:
        """Probability of each cluster, the sum over its classes, of shape (N, S)."""
        return np.ascontiguousarray((self.membership_SC.astype(proba_NC.dtype) @ proba_NC.T).T)

    def likeliest_N(self, mass_NS: FloatArray) -> IntArray:
        """The cluster with the largest mass in each row of ``mass_NS``, of shape (N,); of equals, the first."""
        first_L = self.layers[0]
        cluster_N: IntArray = first_L[mass_NS[:, first_L].argmax(axis=1)]
        return cluster_N


def check_n_clusters(n_clusters: int, n_classes: int) -> None:
    """Raise PartitionError unless 1 <= S <= C."""
    if not 1 <= n_clusters <= n_classes:
        raise PartitionError(f"cannot make {n_clusters} clusters of {n_classes} classes; allowed: 1 to {n_classes}")
