"""How long does `coterie compare --logits` take for 50,000 samples of 1,000 classes? (Asked: under 5 s.)."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared import command, write_result

N, C = 50_000, 1_000


def write_logits(file: Path) -> None:
    """Validation and test of a classifier that is right for about 60 % of the samples."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split in ("validation", "test"):
        label_N = rng.integers(C, size=N)
        logits_NC = rng.normal(scale=2, size=(N, C)).astype(np.float32)
        logits_NC[np.arange(N), label_N] += 7
        arrays |= {f"logits_{split}": logits_NC, f"labels_{split}": label_N}
    np.savez(file, **arrays)


def main() -> None:
    """Time the command in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "logits.npz"
        write_logits(file)
        # Once to warm the file cache: what is measured is the command, not the disk.
        file.read_bytes()
        started = time.perf_counter()
        typed = [sys.executable, "-m", "coterie", "compare", "--logits", str(file)]
        done = subprocess.run(typed, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    write_result(
        __file__,
        f"`coterie compare --logits` of {N:,} validation and {N:,} test samples of {C:,} classes, the start of Python "
        f"included: {seconds:.1f} s ({usage.ru_utime + usage.ru_stime:.1f} s of processor time), "
        f"{usage.ru_maxrss / 2**20:.2f} GiB.\n\n```\n{done.stdout.strip()}\n```",
    )


if __name__ == "__main__":
    command(main)
