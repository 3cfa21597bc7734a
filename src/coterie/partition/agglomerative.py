"""Agglomerative clustering of label vectors: average linkage in cosine, and Ward's."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from coterie.arrays import FloatArray
from coterie.errors import PartitionError
from coterie.partition.graph import N_NEIGHBOURS, label_graph
from coterie.partition.merge import merge_greedily
from coterie.partition.parallel import machine_memory
from coterie.partition.value import Partition
from coterie.partition.vectors import clusterable_rows
from coterie.progress import SILENT, Progress
from coterie.vocabulary import Linkage

# All pairs of 5,000 classes are 100 MB of distances and about a second; both grow with the square.
DENSE_UP_TO = 5000
# Distances of all pairs, and the linkage's copy of them.
BYTES_PER_PAIR = 16
# Along the graph: an entry of a Python dictionary or list and one on a heap for each end of an edge, as measured.
BYTES_PER_CLASS = 250 * 45


def agglomerative_partition(
    vectors_CD: ArrayLike,
    n_clusters: int,
    linkage: Linkage = "average",
    *,
    dense_up_to: int = DENSE_UP_TO,
    progress: Progress = SILENT,
) -> Partition:
    """Join the two nearest clusters until S are left (Ward 1963; Sokal and Michener 1958 for the average).

    Average linkage takes 1 - cosine as distance; Ward's takes Euclidean distances of unit vectors, whose squares are
    twice that. Beyond ``dense_up_to`` classes only clusters that are neighbours in the graph of nearest classes are
    joined; for the average, pairs that are not neighbours count as cosine 0.

    Args:
        vectors_CD: of shape (C, D).
        n_clusters: S, from 1 to the number of distinct directions.
        linkage: average or ward.
        dense_up_to: number of classes up to which all pairs are compared.
        progress: progress callback.

    Raises:
        PartitionError: S out of range, vectors that cannot be clustered, or more classes than memory can hold.
    """
    # Imported here: it takes a second, and an ensemble that is loaded needs none of it.
    from scipy.cluster.hierarchy import fcluster
    from sklearn.cluster import AgglomerativeClustering

    unit_CD = clusterable_rows(vectors_CD, n_clusters)
    _check_memory(len(unit_CD), linkage, dense_up_to)
    if n_clusters == 1 or len(unit_CD) == 1:
        return Partition.from_assignment(np.zeros(len(unit_CD), dtype=int))
    if len(unit_CD) <= dense_up_to:
        return Partition.from_assignment(fcluster(linkage_tree(unit_CD, linkage), n_clusters, criterion="maxclust"))
    graph = label_graph(unit_CD, N_NEIGHBOURS, 0, progress)
    if linkage == "average":
        cluster_C = merge_greedily(graph.weight_CC, n_clusters, None, "mean")
    else:
        ward = AgglomerativeClustering(n_clusters, connectivity=graph.weight_CC, linkage="ward")
        cluster_C = ward.fit_predict(unit_CD[graph.class_C])
    return Partition.from_assignment(graph.in_class_order(cluster_C))


def _check_memory(n_classes: int, linkage: Linkage, dense_up_to: int) -> None:
    pairs = n_classes * (n_classes - 1) // 2
    needed = BYTES_PER_PAIR * pairs if n_classes <= dense_up_to else BYTES_PER_CLASS * n_classes
    # Refused before the work begins: the system would end the process after minutes, without a message.
    available = machine_memory()
    if available is not None and needed > available:
        raise PartitionError(
            f"method {linkage} needs about {needed / 2**30:.1f} GiB for {n_classes:,} classes; this machine has "
            f"{available / 2**30:.1f} GiB. Methods for so many: spectral, kmeans, balanced"
        )


def linkage_tree(unit_CD: FloatArray, linkage: Linkage) -> FloatArray:
    """The tree of merges over all pairs, as scipy's linkage matrix of C - 1 rows."""
    from scipy.cluster.hierarchy import linkage as link
    from scipy.spatial.distance import pdist

    # In float64: nearly equal distances decide which pair is joined first.
    unit_CD = unit_CD.astype(np.float64)
    distance = pdist(unit_CD, "cosine") if linkage == "average" else pdist(unit_CD, "euclidean")
    return link(np.maximum(distance, 0.0), linkage)
