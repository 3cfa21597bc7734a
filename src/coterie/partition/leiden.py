"""Leiden communities of the graph of nearest classes: the method that chooses the number of clusters itself."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, csr_matrix

from coterie.arrays import IntArray
from coterie.errors import PartitionError
from coterie.partition.graph import N_NEIGHBOURS, label_graph
from coterie.partition.merge import merge_greedily
from coterie.partition.value import Partition
from coterie.partition.vectors import clusterable_rows, unit_rows
from coterie.progress import SILENT, Progress

# Halvings of the range of resolutions: enough to tell neighbouring numbers of clusters apart.
SEARCHES = 12


def leiden_partition(
    vectors_CD: ArrayLike,
    n_clusters: int | None = None,
    seed: int = 0,
    *,
    n_neighbours: int = N_NEIGHBOURS,
    progress: Progress = SILENT,
) -> Partition:
    """Communities of the graph of nearest classes by modularity (Traag, Waltman and van Eck 2019).

    Args:
        vectors_CD: of shape (C, D).
        n_clusters: S; default: the number with the best modularity. The resolution is searched for S communities; where
            none gives S exactly, the next larger number found is taken and its most strongly tied communities joined.
        seed: of the order in which classes are moved.
        n_neighbours: K of the graph.
        progress: progress callback.

    Raises:
        PartitionError: scikit-network is not installed; S out of range; vectors that cannot be clustered.
    """
    if find_spec("sknetwork") is None:
        raise PartitionError("method leiden needs scikit-network: pip install 'coterie[partition]'")
    unit_CD = unit_rows(vectors_CD) if n_clusters is None else clusterable_rows(vectors_CD, n_clusters)
    n_classes = len(unit_CD)
    if n_classes == 1 or n_clusters in (1, n_classes):
        return Partition.from_assignment(np.arange(n_classes) if n_clusters != 1 else np.zeros(n_classes, dtype=int))
    graph = label_graph(unit_CD, n_neighbours, seed, progress)
    if n_clusters is None:
        cluster_C = communities(graph.weight_CC, 1.0, seed)
    else:
        cluster_C = _exactly(graph.weight_CC, n_clusters, seed, progress)
    return Partition.from_assignment(graph.in_class_order(cluster_C))


def communities(weight_CC: csr_array, resolution: float, seed: int) -> IntArray:
    """The community of each class at a resolution; higher ones give more communities."""
    from sknetwork.clustering import Leiden

    leiden = Leiden(resolution, shuffle_nodes=True, return_probs=False, return_aggregate=False, random_state=seed)
    return leiden.fit_predict(csr_matrix(weight_CC))


def _exactly(weight_CC: csr_array, n_clusters: int, seed: int, progress: Progress) -> IntArray:
    """Communities at the resolution that gives S of them, or a few more that are then joined."""
    n_classes = weight_CC.shape[0]
    best_C: IntArray = np.arange(n_classes)
    # From a resolution at which all classes are one community to one at which each is its own. These lie orders of
    # magnitude apart, so the range is halved in logarithm.
    low, high = np.log(1e-3), np.log(10.0 * n_classes)
    progress.stage("communities", SEARCHES)
    for _ in range(SEARCHES):
        middle = (low + high) / 2
        cluster_C = communities(weight_CC, float(np.exp(middle)), seed)
        found = int(cluster_C.max()) + 1
        progress.advance(1)
        # Too many can be joined afterwards, too few not be split: the fewest that are enough are kept.
        if found >= n_clusters:
            high = middle
            if found <= int(best_C.max()) + 1:
                best_C = cluster_C
        else:
            low = middle
        if found == n_clusters:
            break
    n_found = int(best_C.max()) + 1
    if n_found == n_clusters:
        return best_C
    member_SC = csr_array((np.ones(n_classes), (best_C, np.arange(n_classes))), shape=(n_found, n_classes))
    tie_SS = csr_array(member_SC @ weight_CC @ member_SC.T)
    return merge_greedily(tie_SS, n_clusters, None, "mean")[best_C]
