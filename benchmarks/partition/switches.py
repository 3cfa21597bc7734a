"""Where do the faster ways of partitioning begin to be faster, and what do they cost in agreement with the truth?

Question: from how many classes on is spectral clustering on the graph of neighbours faster than on all cosines
(`DENSE_UP_TO` in partition/spectral.py), and the search of neighbours in cells faster than comparing all
(`EXACT_UP_TO` in partition/neighbours.py)?

Data: as in partition_scale, D = 256, S the root of C. Both ways take turns on the same data in one process. Seconds
are the fastest of the rounds, since other work on the machine only ever adds; agreement is the mean over the rounds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from partition_scale import planted
from sklearn.metrics import adjusted_rand_score

import record
from coterie.partition import scalable_spectral_partition
from coterie.partition.graph import N_NEIGHBOURS, label_graph
from coterie.partition.spectral import graph_partition
from coterie.partition.vectors import unit_rows
from coterie.progress import SILENT

ROUTE_SIZES = (100, 150, 200, 300, 400, 500, 700, 1000, 1500, 2000)
ROUTE_ROUNDS = 6
SEARCH_SIZES = (10_000, 20_000, 30_000, 40_000)
SEARCH_ROUNDS = 2
Result = TypeVar("Result")


def noise_of(n_classes: int) -> float:
    """Small clusters bear less, before the best method misses most of the truth."""
    return 1.5 if n_classes <= 200 else 2.0 if n_classes <= 700 else 2.5


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds, and what came out."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def data(n_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Vectors, truth, S."""
    n_clusters = round(n_classes**0.5)
    with tempfile.TemporaryDirectory() as folder:
        planted(Path(folder), n_classes, n_clusters, noise_of(n_classes), seed)
        return np.load(f"{folder}/vectors.npy"), np.load(f"{folder}/truth.npy"), n_clusters


def routes() -> list[str]:
    """Dense against sparse."""
    lines = [
        "| C | S | noise | dense | sparse | ARI dense | ARI sparse |",
        "|---|---|---|---|---|---|---|",
    ]
    for n_classes in ROUTE_SIZES:
        seconds: dict[str, list[float]] = {"dense": [], "sparse": []}
        agreement: dict[str, list[float]] = {"dense": [], "sparse": []}
        for seed in range(ROUTE_ROUNDS):
            vectors_CD, truth_C, n_clusters = data(n_classes, seed)
            for route in ("dense", "sparse"):
                spent, found = timed(lambda: scalable_spectral_partition(vectors_CD, n_clusters, route=route))  # noqa: B023
                seconds[route].append(spent)
                agreement[route].append(adjusted_rand_score(truth_C, found.cluster_of_class_C))
        lines.append(
            f"| {n_classes:,} | {n_clusters} | {noise_of(n_classes)} "
            + "".join(f"| {1000 * min(seconds[route]):.0f} ms " for route in seconds)
            + "".join(f"| {np.mean(agreement[route]):.3f} " for route in agreement)
            + "|"
        )
        print(lines[-1], flush=True)
    return lines


def searches() -> list[str]:
    """Exact against cells."""
    lines = [
        "| C | exact | cells | true neighbours found | ARI exact | ARI cells |",
        "|---|---|---|---|---|---|",
    ]
    for n_classes in SEARCH_SIZES:
        vectors_CD, truth_C, n_clusters = data(n_classes, 0)
        unit_CD = unit_rows(vectors_CD)
        seconds: dict[str, list[float]] = {"exact": [], "cells": []}
        agreement: dict[str, float] = {}
        recall = 1.0
        for done in range(SEARCH_ROUNDS):
            for name, exact_up_to in (("exact", n_classes), ("cells", 0)):
                spent, graph = timed(lambda: label_graph(unit_CD, N_NEIGHBOURS, 0, SILENT, exact_up_to))  # noqa: B023
                seconds[name].append(spent)
                if not done:
                    partition = graph_partition(graph, n_clusters, 0, SILENT)
                    agreement[name] = adjusted_rand_score(truth_C, partition.cluster_of_class_C)
                    recall = graph.recall
        lines.append(
            f"| {n_classes:,} "
            + "".join(f"| {min(seconds[name]):.1f} s " for name in seconds)
            + f"| {recall:.0%} "
            + "".join(f"| {agreement[name]:.3f} " for name in agreement)
            + "|"
        )
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    scalable_spectral_partition(np.random.default_rng(0).standard_normal((64, 8)), 3)  # threads and imports
    by_route, by_search = routes(), searches()
    record.write(
        __file__,
        f"{__doc__}\nAll cosines against the graph of neighbours ({ROUTE_ROUNDS} data sets a row):\n\n"
        + "\n".join(by_route)
        + f"\n\nNeighbours by comparing all against cells (one data set a row, {SEARCH_ROUNDS} rounds of time):\n\n"
        + "\n".join(by_search),
    )
