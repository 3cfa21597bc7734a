"""Start-up time of the command line. Asked: `coterie --help` in under 0.5 s, which rules out importing torch."""

import statistics
import subprocess
import sys
import time

from benchmarks.shared import command, markdown_table, write_result

ROUNDS = 15


def seconds(*typed: str) -> float:
    """Median wall time of a command."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *typed], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Time the help, and what an empty interpreter and torch take."""
    rows = {
        "`python -c pass`": seconds("-c", "pass"),
        "`coterie --help`": seconds("-m", "coterie", "--help"),
        "`coterie fit --help`": seconds("-m", "coterie", "fit", "--help"),
        "`python -c 'import torch'`": seconds("-c", "import torch"),
    }
    table = markdown_table(("", "wall time"), [(name, f"{value:.3f} s") for name, value in rows.items()])
    write_result(__file__, f"Median of {ROUNDS}.\n\n{table}")


if __name__ == "__main__":
    command(main)
