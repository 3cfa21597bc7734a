"""Partitions from a hundred classes to a million: time, memory and agreement with a planted truth.

Question: does spectral clustering stay within the asked time and memory on two cores, is it as good as the dense one of
scikit-learn where that can run, and what do plain k-means of scikit-learn and of faiss reach on the same data?

Data: S clusters, the root of C where an argument C:S does not say, whose sizes vary by a Dirichlet(5) draw; a class
is its cluster's Gaussian centre plus Gaussian noise; D = 256, and 64 from a million on; float32 in a
.npy file that is memory-mapped.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score

from benchmarks.shared import NOISE, USUAL_NOISE, alone, command, planted, write_result
from coterie.partition import scalable_spectral_partition
from coterie.progress import Progress

ASKED = {
    100: "under 0.1 s",
    1000: "under 1 s, 0.5 GiB",
    10_000: "under 10 s, 1 GiB",
    100_000: "under 3 min, 4 GiB",
    1_000_000: "under 40 min, 16 GiB",
}
DENSE_UP_TO = 10_000
PART = {"cells": "graph", "neighbours": "graph", "eigenvectors": "eigenvectors", "starts": "k-means"}


class Stages(Progress):
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.title, self.started = "", time.perf_counter()
        self.notes: list[str] = []

    def stage(self, title: str, steps: int) -> None:
        now = time.perf_counter()
        part = PART.get(self.title, self.title or "graph")
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.started
        self.title, self.started = title, now

    def note(self, text: str) -> None:
        self.notes.append(text)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1, as every method here gets them."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ours(vectors: np.ndarray, n_clusters: int) -> tuple[np.ndarray, dict[str, object]]:
    """coterie, the route chosen by itself."""
    stages = Stages()
    found = scalable_spectral_partition(vectors, n_clusters, progress=stages).cluster_of_class_C
    stages.stage("", 0)
    return found, {"stages": stages.seconds, "notes": stages.notes}


def dense(vectors: np.ndarray, n_clusters: int) -> tuple[np.ndarray, dict[str, object]]:
    """scikit-learn's spectral clustering of all cosines."""
    from sklearn.cluster import SpectralClustering

    rows = unit(vectors)
    affinity = np.maximum(rows @ rows.T, 0)
    return SpectralClustering(n_clusters, affinity="precomputed", random_state=0).fit_predict(affinity), {}


def sklearn_kmeans(vectors: np.ndarray, n_clusters: int) -> tuple[np.ndarray, dict[str, object]]:
    """scikit-learn's k-means; in mini-batches from 100,000 classes on."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    kind = KMeans if len(vectors) < 100_000 else MiniBatchKMeans
    batch = {} if len(vectors) < 100_000 else {"batch_size": 8192}
    return kind(n_clusters, n_init=1, random_state=0, **batch).fit_predict(unit(vectors)), {}


def faiss_kmeans(vectors: np.ndarray, n_clusters: int) -> tuple[np.ndarray, dict[str, object]]:
    """Spherical k-means of faiss, 25 rounds, all points."""
    import faiss

    rows = np.ascontiguousarray(unit(vectors))
    kmeans = faiss.Kmeans(
        rows.shape[1], n_clusters, niter=25, spherical=True, seed=1, max_points_per_centroid=10**9, verbose=False
    )
    kmeans.train(rows)
    return kmeans.index.search(rows, 1)[1].ravel(), {}


METHODS: dict[str, Callable[[np.ndarray, int], tuple[np.ndarray, dict[str, object]]]] = {
    "coterie": ours,
    "dense": dense,
    "sklearn_kmeans": sklearn_kmeans,
    "faiss_kmeans": faiss_kmeans,
}


def one(method: str, folder: str, n_clusters: int) -> dict[str, Any]:
    """Run in a process of its own: the peak memory is the method's."""
    import scipy.sparse.linalg  # noqa: F401 - imports are not part of the time
    import sklearn.cluster  # noqa: F401

    if method == "faiss_kmeans":
        import faiss  # noqa: F401
    vectors = np.load(Path(folder) / "vectors.npy", mmap_mode="r")
    if len(vectors) <= 10_000:  # warm up threads and caches of code
        rng = np.random.default_rng(0)
        METHODS[method](rng.standard_normal((64, 8), np.float32), 3)
    started = time.perf_counter()
    found, more = METHODS[method](vectors, n_clusters)
    seconds = time.perf_counter() - started
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    np.save(Path(folder) / f"{method}.npy", found)
    truth = np.load(Path(folder) / "truth.npy")
    return {"seconds": seconds, "gib": gib, "ari": float(adjusted_rand_score(truth, found)), **more}


def measure(method: str, folder: str, n_clusters: int) -> dict[str, Any] | None:
    """Figures of a method; None where it failed."""
    try:
        found = alone(one, method, folder, n_clusters)
    except (BrokenProcessPool, ImportError, MemoryError, RuntimeError, ValueError) as error:
        print(f"{method} failed: {error}")
        return None
    print(method, found, flush=True)
    return found


def main(sizes: tuple[str, ...] = ("100", "1000", "10000", "100000")) -> None:
    """Measure all methods at all sizes, and write the tables.

    Args:
        sizes: numbers of classes C, or C:S with the number of clusters; default of S: the root of C.
    """
    lines = [
        "| C | S | asked | time | peak memory | ARI to the truth | graph | eigenvectors | k-means |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    others = ["| C | method | time | peak memory | ARI to the truth | ARI to coterie's |", "|---|---|---|---|---|---|"]
    notes: list[str] = []
    times: list[tuple[int, float]] = []
    for size in sizes:
        classes, _, clusters = size.partition(":")
        n_classes = int(classes)
        n_clusters = int(clusters) if clusters else round(n_classes**0.5)
        with tempfile.TemporaryDirectory() as folder:
            planted(Path(folder), n_classes, n_clusters)
            print(f"C = {n_classes:,}, S = {n_clusters}", flush=True)
            result = measure("coterie", folder, n_clusters)
            if result is None:
                continue
            times.append((n_classes, result["seconds"]))
            total = sum(result["stages"].values())
            shares = [result["stages"].get(part, 0.0) / total for part in ("graph", "eigenvectors", "k-means")]
            sparse = "eigenvectors" in result["stages"]
            cells = " | ".join(f"{share:.0%}" for share in shares) if sparse else "dense | dense | dense"
            lines.append(
                f"| {n_classes:,} | {n_clusters:,} | {ASKED.get(n_classes, '')} | {result['seconds']:.2f} s "
                f"| {result['gib']:.2f} GiB | {result['ari']:.4f} | {cells} |"
            )
            notes += [f"C = {n_classes:,}: {note}." for note in result["notes"]]
            for method in ("dense", "sklearn_kmeans", "faiss_kmeans"):
                other = measure(method, folder, n_clusters) if method != "dense" or n_classes <= DENSE_UP_TO else None
                if other is None:
                    others.append(f"| {n_classes:,} | {method} | not run | | | |")
                    continue
                found = [np.load(Path(folder) / f"{name}.npy") for name in ("coterie", method)]
                others.append(
                    f"| {n_classes:,} | {method} | {other['seconds']:.2f} s | {other['gib']:.2f} GiB "
                    f"| {other['ari']:.4f} | {adjusted_rand_score(*found):.4f} |"
                )
        write(lines, others, notes, times)


def write(lines: list[str], others: list[str], notes: list[str], times: list[tuple[int, float]]) -> None:
    """The tables so far: a long run that is cut short leaves what it measured."""
    large = [(c, seconds) for c, seconds in times if c >= 1000]
    x, y = (np.log([pair[column] for pair in large]) for column in (0, 1))
    exponent = f"{np.polyfit(x, y, 1)[0]:.2f}" if len(large) > 1 else "not fitted"
    write_result(
        __file__,
        f"{__doc__}\nNoise in standard deviations of the centres: {USUAL_NOISE}; at C of {NOISE}.\n\n"
        + "\n".join(lines)
        + f"\n\nTime grows as C to the power {exponent} from C = 1,000 on (S grows as its root).\n\n"
        + "\n".join(others)
        + "\n\n`dense` is scikit-learn's SpectralClustering on all cosines. Peak memory is that of the process, with "
        "about 0.15 GiB for interpreter and libraries.\n\n" + "\n".join(notes),
    )


if __name__ == "__main__":
    command(main)
