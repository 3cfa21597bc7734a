"""How soon does Ctrl-C end a partition of 100,000 classes?

Question: `coterie partition`, told SIGINT after so many processor seconds, does how much more work before it ends, and
with what exit code? Processor seconds count all threads and do not depend on what else the machine does; the wall clock
does. Data: as in partition_scale, D = 256, S = 316.
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

import record
from partition_scale import planted

MOMENTS = (3, 5, 8, 12, 18, 25, 35, 45)
STAGES = ("cells", "neighbours", "eigenvectors", "starts", "k-means", "map")


def spent(process: subprocess.Popen[bytes]) -> float:
    """Processor seconds of a process so far, of all its threads."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def interrupt(folder: Path, n_clusters: int, moment: float) -> str:
    """A line of the table."""
    command = [sys.executable, "-m", "coterie.cli", "partition", str(folder / "vectors.npy")]
    command += ["--clusters", str(n_clusters), "--out", str(folder / "out"), "--map", "pca"]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        while spent(process) < moment and not (folder / "out").exists():
            time.sleep(0.02)
        before, sent = spent(process), time.perf_counter()
        process.send_signal(signal.SIGINT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - sent
        log.seek(0)
        text = log.read()
    seen = re.findall("|".join(STAGES), text)
    code = os.waitstatus_to_exitcode(status)
    return (
        f"| {before:.0f} s | {seen[-1] if seen else 'before the first ends'} "
        f"| {usage.ru_utime + usage.ru_stime - before:.2f} s | {wall:.2f} s | {code} "
        f"| {'yes' if 'Traceback' in text else 'no'} |"
    )


def main(n_classes: int) -> None:
    """Interrupt at all moments."""
    lines = [
        "| told after | last stage begun | work until the end | wall clock | exit code | traceback |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        n_clusters = round(n_classes**0.5)
        planted(Path(folder), n_classes, n_clusters)
        for moment in MOMENTS:
            lines.append(interrupt(Path(folder), n_clusters, moment))
            print(lines[-1], flush=True)
    record.write(__file__, f"{__doc__}\n" + "\n".join(lines))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 100_000)
