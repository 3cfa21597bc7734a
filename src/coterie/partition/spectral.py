"""Spectral clustering of classes: exact on all similarities while classes are few, on a graph of neighbours beyond."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from coterie.arrays import FloatArray, IntArray
from coterie.errors import PartitionError
from coterie.partition.eigen import leading_eigenvectors
from coterie.partition.graph import N_NEIGHBOURS, LabelGraph, label_graph, normalised
from coterie.partition.kmeans import assign, fill_empty, fit_centres
from coterie.partition.parallel import one_blas_thread
from coterie.partition.value import Partition, check_n_clusters
from coterie.partition.vectors import blocks, check_distinct, clusterable_rows, unit_rows
from coterie.progress import SILENT, Progress
from coterie.vocabulary import Route

# The sparse route is the faster from a hundred classes on, and finds planted clusters as well (benchmarks/
# partition/switches.md). The dense one is the paper's and exact, and costs little up to this size.
DENSE_UP_TO = 200
# A class more per cluster hardly moves a centre of the spectral embedding, whose clusters are tight.
SAMPLE_PER_CLUSTER = 64
# Pivots are sought among so many rows a cluster: each cluster must be among them.
PIVOTS_PER_CLUSTER = 16
# So many eigenvectors tell more clusters apart too, and bound memory to 4 kB a class.
MOST_EIGENVECTORS = 1024


@one_blas_thread()
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
        return _trivial(n_clusters, n_classes)
    spectral_CS = spectral_embedding(np.maximum(similarity_CC, 0.0), n_clusters)
    n_distinct = len(np.unique(spectral_CS.round(9), axis=0))
    if n_distinct >= n_clusters:  # k-means would warn, and find fewer
        partition = Partition.from_assignment(_best_kmeans(spectral_CS, n_clusters, seed))
        n_distinct = partition.n_clusters
    if n_distinct < n_clusters:
        raise PartitionError(
            f"only {n_distinct} distinct groups among {n_classes} label embeddings; asked for {n_clusters}"
        )
    return partition


def _best_kmeans(spectral_CS: FloatArray, n_clusters: int, seed: int) -> IntArray:
    """The better of ten starts of k-means++ and one at the rows that pivoted QR picks; the cluster of each class."""
    # Imported here: it takes a second, and an ensemble that is loaded needs none of it.
    from sklearn.cluster import KMeans

    unit_CS = spectral_CS / np.maximum(np.linalg.norm(spectral_CS, axis=1, keepdims=True), 1e-300)
    # Where clusters are clear, pivots give each one a start, and random starts miss some; where they are not, random
    # starts are often better.
    start_SS = spectral_CS[pivot_rows(unit_CS, n_clusters, seed)]
    ten = KMeans(n_clusters, n_init=10, random_state=seed).fit(spectral_CS)
    one = KMeans(n_clusters, init=start_SS, n_init=1).fit(spectral_CS)
    best: IntArray = min(ten, one, key=lambda kmeans: kmeans.inertia_).labels_
    return best


def spectral_embedding(affinity_CC: FloatArray, n_components: int) -> FloatArray:
    """The leading eigenvectors of the random-walk Laplacian of a graph, of shape (C, n_components)."""
    weight_CC = affinity_CC.copy()
    # A class's similarity to itself ties it to no other.
    np.fill_diagonal(weight_CC, 0.0)
    degree_C = weight_CC.sum(axis=1)
    # A class without an edge is a component of its own, for which any scale will do.
    inverse_root_C = 1.0 / np.sqrt(np.where(degree_C > 0, degree_C, 1.0))
    # The symmetric matrix has the random walk's eigenvalues, and eigh is faster and more exact than a general solver;
    # the scale on the left of the result turns its eigenvectors into the random walk's.
    normalised_CC = inverse_root_C[:, None] * weight_CC * inverse_root_C[None, :]
    n_classes = len(weight_CC)
    _, vectors = eigh(normalised_CC, subset_by_index=(n_classes - n_components, n_classes - 1))
    return inverse_root_C[:, None] * vectors[:, ::-1]


@one_blas_thread()
def scalable_spectral_partition(
    vectors_CD: ArrayLike,
    n_clusters: int,
    seed: int = 0,
    *,
    route: Route = "auto",
    n_neighbours: int = N_NEIGHBOURS,
    progress: Progress = SILENT,
) -> Partition:
    """Spectral clustering of label vectors, however many: memory grows as C x (D + K + S) on the sparse route.

    The dense route is ``spectral_partition`` on all cosines. The sparse one takes the graph of K nearest neighbours,
    its leading eigenvectors with rows scaled to length 1 (Ng, Jordan and Weiss 2001), and k-means on a sample of them.

    Args:
        vectors_CD: of shape (C, D), any float type, memory maps too.
        n_clusters: S, from 1 to the number of distinct directions.
        seed: of all that is random.
        route: dense, sparse, or the faster for this number of classes.
        n_neighbours: K, of the sparse route.
        progress: progress callback.

    Raises:
        PartitionError: S out of range, or vectors that cannot be clustered.
    """
    unit_CD = clusterable_rows(vectors_CD, n_clusters)
    n_classes = len(unit_CD)
    if n_clusters in (1, n_classes):
        return _trivial(n_clusters, n_classes)
    # The sparse route's eigensolver needs a block that is small beside the matrix.
    if (
        route == "dense"
        or (route == "auto" and n_classes <= DENSE_UP_TO)
        or min(n_clusters, MOST_EIGENVECTORS) > n_classes // 3
    ):
        unit_CD = unit_CD.astype(np.float64)
        return spectral_partition(np.clip(unit_CD @ unit_CD.T, -1.0, 1.0), n_clusters, seed)
    graph = label_graph(unit_CD, n_neighbours, seed, progress)
    # The eigensolver's block can then take the place of the vectors in memory.
    del unit_CD
    return graph_partition(graph, n_clusters, seed, progress)


def spectral_family(
    vectors_CD: ArrayLike, most: int, seed: int = 0, progress: Progress = SILENT, route: Route = "auto"
) -> Callable[[int], Partition]:
    """Spectral partitions for many numbers of clusters, up to ``most``, from one graph and one set of eigenvectors.

    Raises:
        PartitionError: as ``scalable_spectral_partition``; from the function returned too.
    """
    unit_CD = unit_rows(vectors_CD)
    few = len(unit_CD) <= DENSE_UP_TO and route == "auto"
    if few or route == "dense" or most > len(unit_CD) // 3:
        return lambda n_clusters: scalable_spectral_partition(unit_CD, n_clusters, seed, route=route)
    check_distinct(unit_CD, most)
    # The eigenvectors for S clusters are the first S of those for more, so the costly part is done once.
    graph = label_graph(unit_CD, N_NEIGHBOURS, seed, progress)
    found = leading_eigenvectors(normalised(graph.weight_CC), min(most, MOST_EIGENVECTORS), seed, progress)

    def make(n_clusters: int) -> Partition:
        check_n_clusters(n_clusters, most)
        if n_clusters == 1:
            return _trivial(1, len(unit_CD))
        # A copy, as rows are scaled in place and the next number of clusters needs them unscaled.
        cluster_C = cluster_rows(found.vector_CS[:, :n_clusters].copy(), n_clusters, seed, SILENT)
        return Partition.from_assignment(graph.in_class_order(cluster_C))

    return make


def graph_partition(graph: LabelGraph, n_clusters: int, seed: int, progress: Progress) -> Partition:
    """Spectral clustering of a sparse graph."""
    matrix_CC = normalised(graph.weight_CC)
    found = leading_eigenvectors(matrix_CC, min(n_clusters, MOST_EIGENVECTORS), seed, progress)
    if not found.converged:
        progress.note("the eigenvectors have not settled: the graph shows no clear number of clusters here")
    return Partition.from_assignment(graph.in_class_order(cluster_rows(found.vector_CS, n_clusters, seed, progress)))


@one_blas_thread()
def cluster_rows(vector_CS: FloatArray, n_clusters: int, seed: int, progress: Progress) -> IntArray:
    """k-means on the rows of eigenvectors, scaled to length 1 in place; the cluster of each row."""
    # Classes with few neighbours have short rows; direction is what tells clusters apart (Ng, Jordan and Weiss 2001).
    for rows in blocks(*vector_CS.shape):
        block = vector_CS[rows]
        vector_CS[rows] = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-20)
    # With fewer eigenvectors than clusters there are fewer orthogonal directions than starts: k-means++ then.
    progress.stage("starts", 1)
    start_SS = vector_CS[pivot_rows(vector_CS, n_clusters, seed)] if n_clusters <= vector_CS.shape[1] else None
    progress.advance(1)
    centre_SS = fit_centres(
        vector_CS, n_clusters, seed=seed, per_cluster=SAMPLE_PER_CLUSTER, start_SD=start_SS, progress=progress
    )
    cluster_C, cosine_C = assign(vector_CS, centre_SS)
    return fill_empty(cluster_C, cosine_C, n_clusters)


def pivot_rows(row_CS: FloatArray, n_pivots: int, seed: int) -> IntArray:
    """The indices of rows that are as orthogonal to each other as there are: where k-means starts.

    The rows that QR with pivoting takes first, on a sample (Damle, Minden and Ying 2019). Rows of one cluster are
    nearly parallel, and those of two nearly orthogonal, so that each gives one; k-means++ would leave some out.
    """
    rng = np.random.default_rng(seed)
    n_rows = max(PIVOTS_PER_CLUSTER * n_pivots, 2**12)
    sample: IntArray = np.arange(len(row_CS))
    if len(row_CS) > n_rows:
        sample = np.sort(rng.choice(len(row_CS), n_rows, replace=False))
        row_CS = row_CS[sample]
    # The squared length of each row outside the directions taken so far: the next pivot is the row with the most.
    rest_C = np.einsum("cs,cs->c", row_CS, row_CS)
    basis_PS = np.zeros((n_pivots, row_CS.shape[1]), dtype=row_CS.dtype)
    chosen = []
    for pivot in range(n_pivots):
        chosen.append(int(rest_C.argmax()))
        direction_S = row_CS[chosen[-1]].copy()
        for _ in range(2):  # twice is enough for orthogonality in floating point
            direction_S -= basis_PS[:pivot].T @ (basis_PS[:pivot] @ direction_S)
        length = np.linalg.norm(direction_S)
        if length > 1e-6:  # otherwise the rows span no further direction, and what is left is rounding
            basis_PS[pivot] = direction_S / length
        rest_C -= (row_CS @ basis_PS[pivot]) ** 2
        rest_C[chosen[-1]] = -np.inf
    return sample[chosen]


def _trivial(n_clusters: int, n_classes: int) -> Partition:
    """All classes in one cluster, or each in its own."""
    return Partition.from_assignment(np.arange(n_classes) if n_clusters > 1 else np.zeros(n_classes, dtype=int))
