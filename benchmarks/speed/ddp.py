"""The base trained by two processes instead of one, with the same batches.

Question: is the loss curve of two ranks that of one process with the same effective batch, and how many images do they
train in a second? A network with batch norms, on the embedded data set, one thread a rank, gloo; beside it one process
with one thread. Each runs `coterie fit` with as little after the base as there can be; the throughput is
that of the base's training alone, as the run's manifest has it. And how soon do torchrun and the other rank end, once
one is killed in the middle of the training?
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.shared import command, write_result
from coterie.run.folder import Run

EPOCHS = 3
PER_CLASS = 12
OPTIONS = [
    f"--data.train-per-class={PER_CLASS}",
    "--backbone=convnet-32",
    f"--base.epochs={EPOCHS}",
    "--specialist.epochs=1",
    "--partition.clusters=1",
    "--hardware.accelerator=cpu",
    "--hardware.precision=fp32",
]
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
WAYS = {
    "one process, one thread": ([], "1"),
    "two ranks, one thread each": (LAUNCHER, "1"),
}


def seconds_to_end(folder: Path) -> float:
    """From the death of rank 1 in the middle of the base's training to the end of all, which name it."""
    out = folder / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    options = [*OPTIONS, "--base.epochs=1000", "--checkpoint-every=1"]
    typed = [sys.executable, *LAUNCHER, "-m", "coterie", "fit", "--out", str(out), *options]
    with (folder / "killed.log").open("w+") as log:
        launcher = subprocess.Popen(typed, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while not (out / "checkpoint" / "base.safetensors").exists():
            assert launcher.poll() is None, (folder / "killed.log").read_text()
            time.sleep(0.1)
        ranks = psutil.Process(launcher.pid).children()
        (second,) = (process for process in ranks if process.environ().get("RANK") == "1")
        second.kill()
        killed = time.perf_counter()
        launcher.wait()
        ended = time.perf_counter() - killed
        log.seek(0)
        text = log.read()
    assert "rank      : 1 (local_rank: 1)" in text, text
    assert not any(process.is_running() for process in ranks if process != second)
    return ended


def main(rounds: int = 2) -> None:
    """Train in all ways.

    Args:
        rounds: of all ways in turn.
    """
    losses: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for name, (launcher, threads) in WAYS.items():
                out = Path(folder) / f"{number} {name}"
                environment = {**os.environ, "OMP_NUM_THREADS": threads, "GLOO_SOCKET_IFNAME": "lo"}
                typed = [sys.executable, *(launcher or []), "-m", "coterie", "fit", "--out", str(out), *OPTIONS]
                subprocess.run(typed, env=environment, check=True, stdout=subprocess.DEVNULL)
                run = Run.open_complete(out)
                losses[name] = [record["loss"] for record in run.read_json("history.json")["base"]]
                seconds[name].append(run.manifest.seconds["base.safetensors"])
                assert run.manifest.data is not None
                n_images = EPOCHS * (PER_CLASS * len(run.manifest.data.classes) // 128) * 128
                print(name, f"{n_images / seconds[name][-1]:.0f} images/s", losses[name], flush=True)
        ended = seconds_to_end(Path(folder))
        print(f"all ended {ended:.1f} s after rank 1 was killed", flush=True)
    reference = losses["one process, one thread"]
    rows = "\n".join(
        f"| {name} | {n_images / min(seconds[name]):.0f} | {', '.join(f'{loss:.6f}' for loss in losses[name])} "
        f"| {max(abs(a - b) / b for a, b in zip(losses[name], reference, strict=True)):.1e} |"
        for name in WAYS
    )
    write_result(
        __file__,
        f"convnet-32, fp32, batches of 128 in all, {EPOCHS} epochs of {n_images // EPOCHS:,} images; fastest of "
        f"{rounds} rounds. Load of the machine by this and other work at the end: {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores.\n\n"
        "| way | images/s | mean training loss by epoch | largest relative difference |\n|---|---|---|---|\n"
        f"{rows}\n\nThe order in which floating-point sums are taken differs between the ways, and nothing else.\n\n"
        f"{ended:.1f} s after rank 1 was killed in the middle of the training, torchrun and rank 0 had ended, with the "
        "number of the rank that died in the message.",
    )


if __name__ == "__main__":
    command(main)
