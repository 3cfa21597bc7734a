"""Do eight threads that ask one ensemble at once get the answers that one thread gets?

Question: 10,000 calls of mixed kinds (`predict_proba`, `forward`) and sizes (1 to 64 samples) by 8 threads, of an
ensemble whose specialists share the base's trunk, and of one whose specialists are whole: how many differ from the
same calls one after another, and by how much? Every call has samples of its own, so that another's answer shows.
Data: the runs in tests/fixtures/runs; samples are drawn at random.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import coterie
from benchmarks.shared import command, write_result
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.inputs import ImagePreprocessing, MemorySamples

RUNS = Path(__file__).parents[2] / "tests" / "fixtures" / "runs"
NAMES = {"tails-of-two-partitions": "tails on a shared trunk", "whole-on-features": "whole specialists"}
LARGEST = 64


def drawn(ensemble: SpecialistEnsemble, size: int, rng: np.random.Generator) -> MemorySamples:
    """Samples of the shape that the ensemble takes."""
    shape = (size, *ensemble.preprocessing.shape)
    if isinstance(ensemble.preprocessing, ImagePreprocessing):
        return MemorySamples(torch.from_numpy(rng.integers(0, 256, size=shape, dtype=np.uint8)))
    return MemorySamples(torch.from_numpy(rng.normal(size=shape).astype(np.float32)))


def row(name: str, calls: int, threads: int) -> str:
    """A line of the table."""
    ensemble, rng = coterie.load(RUNS / name), np.random.default_rng(0)
    batches = [drawn(ensemble, size, rng) for size in rng.integers(1, LARGEST + 1, size=calls).tolist()]

    def ask(number: int) -> np.ndarray:
        samples = batches[number]
        if number % 2:
            return ensemble.predict_proba(samples)
        return ensemble(ensemble.preprocessing(samples.read(torch.arange(len(samples))))).numpy()

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        concurrent = list(pool.map(ask, range(calls)))
    at_once = time.perf_counter() - started
    started = time.perf_counter()
    serial = [ask(number) for number in range(calls)]
    alone = time.perf_counter() - started
    differences = [np.abs(mine - its).max() for mine, its in zip(concurrent, serial, strict=True)]
    differ = sum(not np.array_equal(mine, its) for mine, its in zip(concurrent, serial, strict=True))
    return (
        f"| {NAMES[name]} | {calls:,} | {differ} | {max(differences):.2g} | {calls / at_once:,.0f} "
        f"| {calls / alone:,.0f} |"
    )


def main(calls: int = 10_000, threads: int = 8) -> None:
    """Ask at once, then one after another.

    Args:
        calls: of each ensemble.
        threads: that ask.
    """
    torch.set_num_threads(1)
    lines = [
        f"| ensemble | calls | differ in any bit | largest difference | calls/s, {threads} threads | calls/s, one |",
        "|---|---|---|---|---|---|",
    ]
    for name in NAMES:
        lines.append(row(name, calls, threads))
        print(lines[-1], flush=True)
    write_result(__file__, f"{__doc__}\n" + "\n".join(lines))


if __name__ == "__main__":
    command(main)
