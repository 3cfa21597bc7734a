"""Spherical k-means: clusters of directions (Dhillon and Modha 2001), on a sample where there are many."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from coterie.arrays import FloatArray, IntArray
from coterie.partition.parallel import each_in_threads, one_blas_thread
from coterie.partition.value import Partition
from coterie.partition.vectors import SHARE, blocks, clusterable_rows
from coterie.progress import SILENT, Progress

ROUNDS = 50
# A single start often merges two clusters and splits a third.
STARTS = 10
# Centres are fitted on this many classes a cluster: more hardly move them (faiss takes the same number).
PER_CLUSTER = 256
# k-means++ looks at the sample once per centre; beyond, random classes are as good and take no time.
SEEDED_UP_TO = 2000
# Rows a cluster that k-means++ looks at: every cluster must be among them, but not its exact shape.
SEED_SAMPLE = 20
# Up to here ten starts and single moves are affordable; a single move compares one class with every cluster, in Python.
MANY_STARTS_UP_TO = 2000


@one_blas_thread()
def kmeans_partition(vectors_CD: ArrayLike, n_clusters: int, seed: int = 0, progress: Progress = SILENT) -> Partition:
    """Spherical k-means on label vectors; the best of ten starts where classes are few, one start where many.

    Args:
        vectors_CD: of shape (C, D).
        n_clusters: S, from 1 to the number of distinct directions.
        seed: of the starts.
        progress: progress callback.

    Raises:
        PartitionError: S out of range, or vectors that cannot be clustered.
    """
    unit_CD = clusterable_rows(vectors_CD, n_clusters)
    starts = STARTS if len(unit_CD) <= MANY_STARTS_UP_TO else 1
    best_C: IntArray = np.zeros(len(unit_CD), dtype=np.int64)
    best_fit = -np.inf
    for start in range(starts):
        # Far apart, so that two neighbouring seeds share no start: their partitions are compared for stability.
        centre_SD = fit_centres(unit_CD, n_clusters, seed=seed + 1000 * start, progress=progress)
        cluster_C, cosine_C = assign(unit_CD, centre_SD)
        cluster_C = fill_empty(cluster_C, cosine_C, n_clusters)
        if cosine_C.mean() > best_fit:
            best_C, best_fit = cluster_C, float(cosine_C.mean())
    if len(unit_CD) <= MANY_STARTS_UP_TO:
        best_C = move_singly(unit_CD, best_C, n_clusters)
    return Partition.from_assignment(best_C)


def fit_centres(
    unit_CD: FloatArray,
    n_clusters: int,
    *,
    seed: int,
    rounds: int = ROUNDS,
    per_cluster: int = PER_CLUSTER,
    start_SD: FloatArray | None = None,
    progress: Progress = SILENT,
    title: str = "k-means",
) -> FloatArray:
    """Unit centres of S clusters of unit rows, of shape (S, D), by Lloyd's rounds on a sample.

    Args:
        unit_CD: rows of length 1.
        n_clusters: S.
        seed: of sample and start.
        rounds: at most so many; fewer when nothing moves any more.
        per_cluster: rows of the sample for each cluster.
        start_SD: where to start; default: k-means++ on a smaller sample.
        progress: progress callback.
        title: of the stage.
    """
    rng = np.random.default_rng(seed)
    sample = unit_CD
    # A floor of 16,384 rows: below it a sample saves no time. Sorted, so that rows are read in the order of memory.
    if len(unit_CD) > max(per_cluster * n_clusters, 2**14):
        sample = unit_CD[np.sort(rng.choice(len(unit_CD), max(per_cluster * n_clusters, 2**14), replace=False))]
    centre_SD = _start(sample, n_clusters, rng) if start_SD is None else start_SD
    before_C: IntArray | None = None
    progress.stage(title, rounds)
    for done in range(rounds):
        cluster_C, cosine_C = assign(sample, centre_SD)
        cluster_C = fill_empty(cluster_C, cosine_C, n_clusters)
        # One row in ten thousand moves no centre to speak of, and the last rows may swap for many rounds.
        if before_C is not None and np.mean(cluster_C != before_C) <= 1e-4:
            progress.advance(rounds - done)
            break
        before_C = cluster_C
        centre_SD = centres(sample, cluster_C, n_clusters)
        progress.advance(1)
    return centre_SD


def move_singly(unit_CD: FloatArray, cluster_C: IntArray, n_clusters: int, rounds: int = 20) -> IntArray:
    """Move one class after the other wherever the sum of the clusters' lengths grows (Dhillon, Guan and Kogan 2002).

    Lloyd's rounds stop too early where clusters are small and dimensions many: a class is part of its cluster's mean,
    and so more similar to it than to any other.
    """
    cluster_C = cluster_C.copy()
    # In float64, as each sum is changed thousands of times.
    sum_SD = np.zeros((n_clusters, unit_CD.shape[1]))
    np.add.at(sum_SD, cluster_C, unit_CD)
    size_S = np.bincount(cluster_C, minlength=n_clusters)
    for _ in range(rounds):
        moved = False
        for label, row_D in enumerate(unit_CD.astype(np.float64)):
            own = cluster_C[label]
            if size_S[own] == 1:  # moving it would leave its cluster empty
                continue
            # Taken out first: otherwise its own cluster is favoured by the class itself.
            sum_SD[own] -= row_D
            square_S = np.einsum("sd,sd->s", sum_SD, sum_SD)
            # By how much each cluster's sum grows in length with the class: |s + x| - |s|, |x| being 1.
            gain_S = np.sqrt(np.maximum(square_S + 2 * (sum_SD @ row_D) + 1, 0.0)) - np.sqrt(square_S)
            best = int(gain_S.argmax())
            # Equal gains must not move a class back and forth by rounding.
            if gain_S[best] <= gain_S[own] + 1e-9:
                best = int(own)
            moved |= best != own
            size_S[own] -= 1
            size_S[best] += 1
            cluster_C[label] = best
            sum_SD[best] += row_D
        if not moved:
            break
    return cluster_C


def assign(unit_CD: FloatArray, centre_SD: FloatArray) -> tuple[IntArray, FloatArray]:
    """The nearest centre of each row and its cosine, both of shape (C,)."""
    cluster_C = np.empty(len(unit_CD), dtype=np.int64)
    cosine_C = np.empty(len(unit_CD), dtype=np.float32)

    def nearest(rows: slice) -> None:
        cosine_BS = unit_CD[rows] @ centre_SD.T
        cluster_C[rows] = cosine_BS.argmax(axis=1)
        cosine_C[rows] = cosine_BS.max(axis=1)

    each_in_threads(nearest, blocks(len(unit_CD), max(len(centre_SD), unit_CD.shape[1]), SHARE))
    return cluster_C, cosine_C


def centres(unit_CD: FloatArray, cluster_C: IntArray, n_clusters: int) -> FloatArray:
    """The mean direction of each cluster, of shape (S, D); every cluster must have a row."""
    n_rows = len(unit_CD)
    ones = np.ones(n_rows, dtype=unit_CD.dtype)
    # A sparse product sums the rows of all clusters in one pass; np.add.at takes them one by one.
    order = np.argsort(cluster_C, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(cluster_C, minlength=n_clusters))])
    sum_SD = csr_array((ones, order, start), shape=(n_clusters, n_rows)) @ unit_CD
    length_S1 = np.linalg.norm(sum_SD, axis=1, keepdims=True)
    # Opposite rows can cancel out; any of them is then as good a centre.
    first_SD = unit_CD[order[start[:-1]]]
    return np.where(length_S1 > 1e-12, sum_SD / np.maximum(length_S1, 1e-12), first_SD)


def fill_empty(cluster_C: IntArray, cosine_C: FloatArray, n_clusters: int) -> IntArray:
    """Give each empty cluster the row that fits its own worst, unless it is the last one there."""
    sizes = np.bincount(cluster_C, minlength=n_clusters)
    empty = np.flatnonzero(sizes == 0)
    if not empty.size:
        return cluster_C
    cluster_C = cluster_C.copy()
    worst = iter(np.argsort(cosine_C, kind="stable").tolist())
    for cluster in empty.tolist():
        row = next(row for row in worst if sizes[cluster_C[row]] > 1)
        sizes[cluster_C[row]] -= 1
        cluster_C[row] = cluster
        sizes[cluster] = 1
    return cluster_C


def _start(sample_CD: FloatArray, n_clusters: int, rng: np.random.Generator) -> FloatArray:
    """k-means++ (Arthur and Vassilvitskii 2007) on a sample of the sample, or random rows for very many clusters."""
    # Imported here: it takes a second, and an ensemble that is loaded needs none of it.
    from sklearn.cluster import kmeans_plusplus

    if n_clusters > SEEDED_UP_TO:
        return sample_CD[rng.choice(len(sample_CD), n_clusters, replace=False)]
    n_rows = max(SEED_SAMPLE * n_clusters, 2**12)
    if len(sample_CD) > n_rows:
        sample_CD = sample_CD[rng.choice(len(sample_CD), n_rows, replace=False)]
    return kmeans_plusplus(sample_CD, n_clusters, random_state=int(rng.integers(2**31)))[0]
