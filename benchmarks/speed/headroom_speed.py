"""How long does headroom take, and how much memory?

Question: 50,000 x 1,000 stored logits, ten numbers of clusters, two methods, the command from start to page: under
60 seconds on two cores and under 4 GiB?
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.shared import command, write_result

N_SAMPLES, N_CLASSES, PER_GROUP = 50_000, 1000, 20


def make_logits(file: Path) -> None:
    """Classes in groups of twenty that are confused; a base of about 70 %."""
    rng = np.random.default_rng(0)
    label_N = rng.integers(N_CLASSES, size=N_SAMPLES)
    logits_NC = 2 * rng.standard_normal((N_SAMPLES, N_CLASSES), dtype=np.float32)
    logits_NC += 3 * ((np.arange(N_CLASSES) // PER_GROUP)[None, :] == (label_N // PER_GROUP)[:, None])
    logits_NC[np.arange(N_SAMPLES), label_N] += 5
    np.savez(file, logits_validation=logits_NC, labels_validation=label_N)


def main() -> None:
    """Time the command in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "logits.npz"
        make_logits(file)
        typed = [sys.executable, "-m", "coterie", "headroom", str(file), "--out", f"{folder}/out"]
        started = time.perf_counter()
        subprocess.run(typed, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        settings = len(json.loads(Path(folder, "out", "headroom.json").read_text())["settings"])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    write_result(
        __file__,
        f"{__doc__}\n| | asked | measured |\n|---|---|---|\n"
        f"| settings tried | 20 | {settings} |\n"
        f"| seconds from start to page | under 60 | {seconds:.0f} |\n"
        f"| processor seconds | | {used.ru_utime + used.ru_stime:.0f} |\n"
        f"| peak memory | under 4 GiB | {used.ru_maxrss / 2**20:.2f} GiB |\n\n"
        f"Load average meanwhile: {os.getloadavg()[0]:.1f}.",
    )


if __name__ == "__main__":
    command(main)
