"""Clusters of limited size: spherical k-means whose clusters take no more classes than they may."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from coterie.arrays import FloatArray, IntArray
from coterie.partition.kmeans import MANY_STARTS_UP_TO, assign, centres, fill_empty, fit_centres, kmeans_partition
from coterie.partition.merge import check_max_size
from coterie.partition.parallel import one_blas_thread
from coterie.partition.value import Partition, check_n_clusters
from coterie.partition.vectors import blocks, check_distinct, unit_rows
from coterie.progress import SILENT, Progress

# Most starts settle in a few rounds; with a cap, classes may also swap places for ever.
ROUNDS = 10


@one_blas_thread()
def balanced_partition(
    vectors_CD: ArrayLike,
    n_clusters: int | None = None,
    max_size: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Partition:
    """Size-capped spherical k-means, for specialists of equal cost.

    Args:
        vectors_CD: of shape (C, D).
        n_clusters: S; default: as few as the cap allows.
        max_size: classes per cluster at most; default: C / S, rounded up, so that sizes are as equal as S allows.
        seed: of the start.
        progress: progress callback.

    Raises:
        PartitionError: neither S nor a cap; S out of range; a cap that cannot hold all classes.
    """
    unit_CD = unit_rows(vectors_CD)
    n_clusters, max_size = size_limits(n_clusters, max_size, len(unit_CD))
    check_distinct(unit_CD, n_clusters)
    # Few classes: the best of many starts, single moves included. Many: centres alone, as the cap moves classes anyway.
    if len(unit_CD) <= MANY_STARTS_UP_TO:
        start_C = kmeans_partition(unit_CD, n_clusters, seed, progress).cluster_of_class_C
        centre_SD = centres(unit_CD, start_C, n_clusters)
    else:
        centre_SD = fit_centres(unit_CD, n_clusters, seed=seed, progress=progress)
    before_C: IntArray | None = None
    progress.stage("balancing", ROUNDS)
    for done in range(ROUNDS):
        cluster_C, cosine_C = assign_capped(unit_CD, centre_SD, max_size)
        cluster_C = fill_empty(cluster_C, cosine_C, n_clusters)
        if before_C is not None and np.array_equal(cluster_C, before_C):
            progress.advance(ROUNDS - done)
            break
        before_C = cluster_C
        centre_SD = centres(unit_CD, cluster_C, n_clusters)
        progress.advance(1)
    return Partition.from_assignment(cluster_C)


def size_limits(n_clusters: int | None, max_size: int | None, n_classes: int) -> tuple[int, int]:
    """S and the cap, each from the other where it is None.

    Raises:
        PartitionError: both are None, or they do not fit the number of classes.
    """
    if n_clusters is not None:
        check_n_clusters(n_clusters, n_classes)
    if max_size is None:
        check_n_clusters(n_clusters or 0, n_classes)
        max_size = -(-n_classes // (n_clusters or 1))
    check_max_size(max_size, n_clusters, n_classes)
    return n_clusters or -(-n_classes // max_size), max_size


def assign_capped(unit_CD: FloatArray, centre_SD: FloatArray, max_size: int) -> tuple[IntArray, FloatArray]:
    """Each class to the nearest centre that has room, and its cosine.

    In rounds: every unplaced class requests the nearest centre with room, and the centre accepts those nearest to it (a
    round of deferred acceptance, Gale and Shapley 1962). Each round fills a centre or places every class.
    """
    n_classes, n_clusters = len(unit_CD), len(centre_SD)
    cluster_C = np.full(n_classes, -1)
    cosine_C = np.zeros(n_classes, dtype=np.float32)
    room_S = np.full(n_clusters, max_size)
    while (unplaced := np.flatnonzero(cluster_C < 0)).size:
        open_S = np.flatnonzero(room_S > 0)
        requested = np.empty(len(unplaced), dtype=np.int64)
        fit = np.empty(len(unplaced), dtype=np.float32)
        open_SD = centre_SD[open_S]
        for rows in blocks(len(unplaced), max(len(open_S), unit_CD.shape[1])):
            nearest, fit[rows] = assign(unit_CD[unplaced[rows]], open_SD)
            requested[rows] = open_S[nearest]
        # Sorted by centre, then by cosine: the rank of a class among those that request the same centre is its place
        # less that of the first of them.
        order = np.lexsort((-fit, requested))
        first = np.searchsorted(requested[order], np.arange(n_clusters))
        rank = np.arange(len(order)) - first[requested[order]]
        taken = order[rank < room_S[requested[order]]]
        cluster_C[unplaced[taken]], cosine_C[unplaced[taken]] = requested[taken], fit[taken]
        room_S -= np.bincount(requested[taken], minlength=n_clusters)
    return cluster_C, cosine_C
