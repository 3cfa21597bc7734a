"""Label embeddings -> Partition. Arrays only: nothing here knows networks.

A partition is held as a membership matrix, so that the mass of a cluster is one product, and overlapping clusters
need no second code path.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from sklearn.cluster import KMeans

from coterie.errors import PartitionError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Partition:
    """S clusters of C classes: ``member_SC`` is bool of shape (S, C).

    The specialists' outputs are held side by side in one packed array of M columns, M being the sum of the cluster
    sizes: cluster after cluster, and within a cluster in the order of the classes.

    Raises:
        PartitionError: an empty cluster, or a class in no cluster.
    """

    member_SC: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.member_SC.ndim != 2 or self.member_SC.dtype != np.bool_:
            raise PartitionError(
                "a partition needs a boolean matrix of clusters x classes; "
                f"got {self.member_SC.dtype} of shape {self.member_SC.shape}"
            )
        empty = np.flatnonzero(~self.member_SC.any(axis=1))
        homeless = np.flatnonzero(~self.member_SC.any(axis=0))
        if empty.size or homeless.size:
            raise PartitionError(
                "every cluster needs a class and every class a cluster; "
                f"empty clusters: {empty[:10].tolist()}, classes in none: {homeless[:10].tolist()}"
            )

    @classmethod
    def from_assignment(cls, cluster_of_class: ArrayLike) -> Self:
        """From one cluster per class. Clusters are renumbered in the order of their first class, so that equal
        groupings give equal partitions.
        """
        given_C = np.asarray(cluster_of_class)
        if given_C.ndim != 1 or given_C.size == 0:
            raise PartitionError(f"an assignment is a list of one cluster per class; got shape {given_C.shape}")
        _, first, inverse_C = np.unique(given_C, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        return cls(np.arange(len(first))[:, None] == rank[inverse_C][None, :])

    @property
    def n_clusters(self) -> int:
        """S."""
        return int(self.member_SC.shape[0])

    @property
    def n_classes(self) -> int:
        """C."""
        return int(self.member_SC.shape[1])

    @cached_property
    def size_S(self) -> IntArray:
        """Number of classes in each cluster."""
        return self.member_SC.sum(axis=1)

    @cached_property
    def cluster_of_class_C(self) -> IntArray:
        """The cluster of each class; of several, the first."""
        return self.member_SC.argmax(axis=0)

    @cached_property
    def packed_class_M(self) -> IntArray:
        """The class of each packed column."""
        return np.nonzero(self.member_SC)[1]

    def classes(self, cluster: int) -> IntArray:
        """The classes of a cluster, ascending: global index by cluster-local index."""
        return np.flatnonzero(self.member_SC[cluster])

    def columns(self, cluster: int) -> slice:
        """The packed columns of a cluster."""
        stop = int(self.size_S[: cluster + 1].sum())
        return slice(stop - int(self.size_S[cluster]), stop)

    def mass_NS(self, proba_NC: FloatArray) -> FloatArray:
        """Probability of each cluster, the sum over its classes, of shape (N, S)."""
        return proba_NC @ self.member_SC.T.astype(proba_NC.dtype)


def spectral_partition(similarity_CC: FloatArray, n_clusters: int, seed: int = 0) -> Partition:
    """Normalised spectral clustering of classes (Shi and Malik 2000, as in von Luxburg 2007; the paper's method).

    Similarities below zero count as none: a graph has no negative edges, and classes that point apart are not confused.

    Args:
        similarity_CC: symmetric, of shape (C, C), in [-1, 1].
        n_clusters: S, from 1 to C.
        seed: of the k-means on the spectral embedding.

    Raises:
        PartitionError: S is below 1 or above C, or the similarities are not a finite symmetric matrix.
    """
    n_classes = len(similarity_CC)
    check_n_clusters(n_clusters, n_classes)
    if similarity_CC.shape != (n_classes, n_classes) or not np.isfinite(similarity_CC).all():
        raise PartitionError(f"similarities must be a finite square matrix; got shape {similarity_CC.shape}")
    if not np.allclose(similarity_CC, similarity_CC.T, atol=1e-6):
        raise PartitionError("similarities must be symmetric")
    if n_clusters in (1, n_classes):
        return Partition.from_assignment(np.arange(n_classes) if n_clusters > 1 else np.zeros(n_classes, dtype=int))
    spectral_CS = spectral_embedding(np.maximum(similarity_CC, 0.0), n_clusters)
    kmeans = KMeans(n_clusters, n_init=10, random_state=seed)
    partition = Partition.from_assignment(kmeans.fit_predict(spectral_CS))
    if partition.n_clusters < n_clusters:
        raise PartitionError(
            f"only {partition.n_clusters} distinct groups among {n_classes} label embeddings; asked for {n_clusters}"
        )
    return partition


def spectral_embedding(affinity_CC: FloatArray, n_components: int) -> FloatArray:
    """The leading eigenvectors of the random-walk Laplacian of a graph, of shape (C, n_components)."""
    weight_CC = affinity_CC.copy()
    np.fill_diagonal(weight_CC, 0.0)
    degree_C = weight_CC.sum(axis=1)
    # A class without an edge is a component of its own; any scale will do for it.
    inverse_root_C = 1.0 / np.sqrt(np.where(degree_C > 0, degree_C, 1.0))
    normalised_CC = inverse_root_C[:, None] * weight_CC * inverse_root_C[None, :]
    n_classes = len(weight_CC)
    _, vectors = eigh(normalised_CC, subset_by_index=(n_classes - n_components, n_classes - 1))
    return inverse_root_C[:, None] * vectors[:, ::-1]


def check_n_clusters(n_clusters: int, n_classes: int) -> None:
    """Raises PartitionError unless 1 <= S <= C."""
    if not 1 <= n_clusters <= n_classes:
        raise PartitionError(f"cannot make {n_clusters} clusters of {n_classes} classes; allowed: 1 to {n_classes}")
