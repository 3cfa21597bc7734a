"""Do eight threads that ask one ensemble at once get the answers that one thread gets?

Question: of 10,000 calls by 8 threads, of both kinds (`predict_proba`, `forward`) and of 1 to 32 samples, how many
differ from the same calls one after another, and by how much? The ensemble's specialists share the base's trunk. The
calls ask about 500 batches in random order, so that another call's answer shows.
Data: the run tests/fixtures/runs/tails-of-two-partitions; images of random pixels.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import coterie
from benchmarks.shared import command, write_result

RUN = Path(__file__).parents[2] / "tests" / "fixtures" / "runs" / "tails-of-two-partitions"
BATCHES, LARGEST = 500, 32


def main(calls: int = 10_000, threads: int = 8) -> None:
    """Ask one after another, then at once.

    Args:
        calls: in all.
        threads: that ask.
    """
    torch.set_num_threads(1)
    ensemble, rng = coterie.load(RUN), np.random.default_rng(0)
    shape = ensemble.preprocessing.shape
    sizes = rng.integers(1, LARGEST + 1, size=BATCHES).tolist()
    batches = [rng.integers(0, 256, size=(size, *shape), dtype=np.uint8) for size in sizes]
    inputs = [ensemble.preprocessing(torch.from_numpy(batch)) for batch in batches]

    def ask(number: int) -> np.ndarray:
        return ensemble(inputs[number]).numpy() if number % 2 else ensemble.predict_proba(batches[number])

    started = time.perf_counter()
    alone = [ask(number) for number in range(BATCHES)]
    serial_rate = BATCHES / (time.perf_counter() - started)

    def difference(number: int) -> float:
        """Infinite where even the shapes differ; 0 where all bits are equal."""
        answer = ask(number)
        if answer.shape != alone[number].shape:
            return np.inf
        return 0.0 if np.array_equal(answer, alone[number]) else float(np.abs(answer - alone[number]).max())

    order = rng.integers(0, BATCHES, size=calls).tolist()
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        differences = list(pool.map(difference, order))
    rate = calls / (time.perf_counter() - started)
    differ = sum(each > 0 for each in differences)
    write_result(
        __file__,
        f"{__doc__}\n"
        "| calls | threads | differ in any bit | largest difference | calls/s at once | calls/s one after another |\n"
        "|---|---|---|---|---|---|\n"
        f"| {calls:,} | {threads} | {differ} | {max(differences):.2g} | {rate:,.0f} | {serial_rate:,.0f} |",
    )


if __name__ == "__main__":
    command(main)
