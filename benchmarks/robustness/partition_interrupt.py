"""How soon does Ctrl-C end a partition of 100,000 classes?

Question: `coterie partition`, told SIGINT so many processor seconds after a stage has ended, does how much more work
before it ends, and with what exit code? Processor seconds count all threads and do not depend on what else the machine
does; the wall clock does. What ends is what the command itself prints, so that this shows its progress too.
Data: as in benchmarks.partition.scale, D = 256, S = 316.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.shared import command, planted, write_result

# After the end of which stage (none: the start of the command), and after how many processor seconds more: the next
# stage is then under way. The longest are asked most often.
MOMENTS = (
    ("", 3),
    ("", 8),
    ("", 15),
    ("cells", 2),
    ("cells", 20),
    ("neighbours", 0.5),
    ("neighbours", 3),
    ("neighbours", 8),
    ("neighbours", 15),
    ("neighbours", 25),
    ("eigenvectors", 0),
    ("starts", 0),
    ("starts", 1),
    ("starts", 3),
    ("k-means", 0.2),
)
STAGES = ("cells", "neighbours", "eigenvectors", "starts", "k-means", "map")


def spent(process: subprocess.Popen[bytes]) -> float:
    """Processor seconds of a process so far, of all its threads."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(process: subprocess.Popen[bytes], log: Path, stage: str, seconds: float) -> None:
    """Until a stage has ended, and then some processor seconds; or until the process has ended first."""
    begun = 0.0 if not stage else None
    while process.poll() is None and (begun is None or spent(process) < begun + seconds):
        if begun is None and stage in log.read_text():
            begun = spent(process)
        time.sleep(0.01)


def interrupt(folder: Path, n_clusters: int, stage: str, seconds: float) -> str:
    """A line of the table."""
    command = [sys.executable, "-m", "coterie", "partition", str(folder / "vectors.npy")]
    command += ["--clusters", str(n_clusters), "--out", str(folder / "out"), "--map", "pca"]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        wait_for(process, folder / "log", stage, seconds)
        if process.returncode is not None:
            return f"| {stage or 'the start'} + {seconds} s | it had ended | - | - | - | - |"
        before, sent = spent(process), time.perf_counter()
        process.send_signal(signal.SIGINT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - sent
        log.seek(0)
        text = log.read()
    seen = re.findall("|".join(STAGES), text)
    code = os.waitstatus_to_exitcode(status)
    return (
        f"| {stage or 'the start'} + {seconds} s, {before:.1f} s in all | {seen[-1] if seen else 'none'} "
        f"| {usage.ru_utime + usage.ru_stime - before:.2f} s | {wall:.2f} s | {code} "
        f"| {'yes' if 'Traceback' in text else 'no'} |"
    )


def main(n_classes: int = 100_000) -> None:
    """Interrupt at all moments.

    Args:
        n_classes: to partition.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in the background deaf to it
    lines = [
        "| told after | last stage that had ended | work until the end | wall clock | exit code | traceback |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        n_clusters = round(n_classes**0.5)
        planted(Path(folder), n_classes, n_clusters)
        for stage, seconds in MOMENTS:
            lines.append(interrupt(Path(folder), n_clusters, stage, seconds))
            print(lines[-1], flush=True)
    write_result(__file__, f"{__doc__}\n" + "\n".join(lines))


if __name__ == "__main__":
    command(main)
