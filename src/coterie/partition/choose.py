"""Choosing the number of clusters by what it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from coterie.arrays import FloatArray
from coterie.errors import PartitionError
from coterie.partition.eigen import leading_eigenvectors
from coterie.partition.graph import N_NEIGHBOURS, label_graph, normalised
from coterie.partition.parallel import one_blas_thread
from coterie.partition.quality import cosine_silhouette
from coterie.partition.spectral import DENSE_UP_TO
from coterie.partition.value import Partition
from coterie.partition.vectors import count_distinct, unit_rows
from coterie.progress import SILENT, Progress

# Each number that is tried costs a partition, and more specialists than this are rarely trained.
MOST_CLUSTERS = 100
# Numbers of the grid, evenly spaced in logarithm: 2 and 4 clusters differ more than 52 and 54.
GRID = 16
# The largest eigengap is often at very few clusters; a handful leaves the silhouette a choice.
PROPOSALS = 6


@dataclass(frozen=True)
class Choice:
    """The numbers of clusters that were tried, what each gave, and the one that was chosen.

    ``eigengap``: fall of the graph's eigenvalues from the S-th to the next; ``silhouette``: mean, in cosine;
    ``gain_forecast``: from validation logits, None where there are none. ``criterion``: what decided.
    """

    n_clusters: tuple[int, ...]
    eigengap: tuple[float, ...]
    silhouette: tuple[float, ...]
    gain_forecast: tuple[float, ...] | None
    chosen: int
    criterion: Literal["gain forecast", "eigengap and silhouette"]

    def to_values(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return asdict(self)


def choose_n_clusters(
    vectors_CD: ArrayLike,
    make: Callable[[int], Partition],
    forecast: Callable[[Partition], float] | None = None,
    *,
    candidates: Iterable[int] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Choice:
    """The S with the best gain forecast; without one, the S that eigengap proposes and silhouette prefers.

    Args:
        vectors_CD: label vectors of shape (C, D).
        make: a partition from a number of clusters.
        forecast: of the gain of the ensemble with a partition, from validation.
        candidates: values of S to try; default: a grid, and the numbers with the largest eigengaps.
        seed: of the eigensolver.
        progress: progress callback.

    Raises:
        PartitionError: fewer than 3 classes, or a candidate outside 2 to C - 1.
    """
    unit_CD = unit_rows(vectors_CD)
    n_classes = len(unit_CD)
    most = most_to_try(unit_CD)
    given = sorted(set(candidates)) if candidates is not None else None
    if given is not None:
        if not given or given[0] < 2 or given[-1] > n_classes - 1:
            raise PartitionError(f"cannot try {given} clusters of {n_classes} classes; allowed: 2 to {n_classes - 1}")
        most = given[-1]
    gap_S = eigengaps(unit_CD, most, seed, progress)
    # The first gap would propose S = 1, which is no partition.
    proposed = (2 + np.argsort(-gap_S[1:], kind="stable")[:PROPOSALS]).tolist()
    grid = np.unique(np.geomspace(2, most, GRID).round().astype(int)).tolist()
    tried = given if given is not None else sorted({*grid, *proposed})
    progress.stage("numbers of clusters", len(tried))
    silhouettes: list[float] = []
    forecasts: list[float] = []
    for n_clusters in tried:
        partition = make(n_clusters)
        silhouettes.append(cosine_silhouette(unit_CD, partition) or 0.0)
        if forecast is not None:
            forecasts.append(forecast(partition))
        progress.advance(1)
    # The silhouette decides among what the eigengaps propose; where no proposal was tried, among all.
    allowed = set(proposed) & set(tried) or set(tried)
    best = max((s for s in tried if s in allowed), key=lambda s: silhouettes[tried.index(s)])
    return Choice(
        tuple(tried),
        tuple(float(gap_S[s - 1]) for s in tried),
        tuple(silhouettes),
        tuple(forecasts) if forecast is not None else None,
        tried[int(np.argmax(forecasts))] if forecast is not None else best,
        "gain forecast" if forecast is not None else "eigengap and silhouette",
    )


def most_to_try(unit_CD: FloatArray) -> int:
    """The largest S worth trying: below C, at most the number of distinct directions, and bounded for time.

    Raises:
        PartitionError: fewer than 3 classes, or all of one direction.
    """
    n_classes = len(unit_CD)
    if n_classes < 3:
        raise PartitionError(f"there is no number of clusters to choose for {n_classes} classes; allowed: at least 3")
    most = min(n_classes - 1, MOST_CLUSTERS, count_distinct(unit_CD))
    if most < 2:
        raise PartitionError(f"there is no number of clusters to choose: all {n_classes} label embeddings are alike")
    return most


@one_blas_thread()
def eigengaps(unit_CD: FloatArray, most: int, seed: int, progress: Progress) -> FloatArray:
    """Fall from the S-th to the next eigenvalue of the normalised graph, for S from 1 to ``most`` (von Luxburg 2007).

    The graph is the one that spectral clustering takes for so many classes.
    """
    n_classes = len(unit_CD)
    n_values = min(most + 1, n_classes)
    # Eigengaps must be those of the graph that the partitions are made from.
    if n_classes <= DENSE_UP_TO or n_values > n_classes // 3:
        weight_CC = np.maximum(unit_CD @ unit_CD.T, 0.0).astype(np.float64)
        np.fill_diagonal(weight_CC, 0.0)
        degree_C = weight_CC.sum(axis=1)
        root_C = 1.0 / np.sqrt(np.where(degree_C > 0, degree_C, 1.0))
        span = (n_classes - n_values, n_classes - 1)
        values: FloatArray = eigh(root_C[:, None] * weight_CC * root_C, subset_by_index=span, eigvals_only=True)[::-1]
    else:
        graph = label_graph(unit_CD, N_NEIGHBOURS, seed, progress)
        values = leading_eigenvectors(normalised(graph.weight_CC), n_values, seed, progress).value_S
    return values[:-1] - values[1:]
