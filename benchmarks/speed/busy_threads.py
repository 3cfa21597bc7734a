"""Training on cores that others use too: what do the threads' way of waiting, and their number, change?

Question: how fast does a small network train where a busy process runs on each core, and where none does, with as many
threads as cores that spin while they wait (OpenMP's default), that sleep (what the command line sets), and with one
thread? Data: noise of CIFAR-100's size, convnet-32, batches of 128. Contenders take turns, each in a process of its own
and after a warm-up; rates are medians over rounds, ratios are taken round by round. What else ran on the machine
meanwhile is in the table: "others" are cores that neither contender nor busy processes took.
"""

import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.shared import command, markdown_table, write_result
from coterie.system.load import OthersLoad

WARM_UP_STEPS = 2
SPIN = "while True: pass"


@dataclass(frozen=True)
class Contender:
    """Threads, and OpenMP's wait policy; empty: its default."""

    title: str
    threads: int
    policy: str


def train(threads: int, seconds: float) -> float:
    """Images per second, in this process."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    from coterie.backbones import build
    from coterie.inputs import ImagePreprocessing

    torch.set_num_threads(threads)
    form = ImagePreprocessing(32, 32, 3, mean=(0.0,) * 3, std=(1.0,) * 3)
    network = build("convnet-32", 100, form, seed=0).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    inputs, labels = torch.randn(128, 3, 32, 32), torch.randint(100, (128,))
    started, steps = time.perf_counter(), -WARM_UP_STEPS
    while steps < 1 or time.perf_counter() - started < seconds:
        if steps == 0:
            started = time.perf_counter()
        F.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    return 128 * steps / (time.perf_counter() - started)


def run_one(contender: Contender, seconds: float) -> float:
    """Images per second, in a process whose threads wait as the contender says."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    if contender.policy:
        variables["OMP_WAIT_POLICY"] = contender.policy
    code = f"from benchmarks.speed.busy_threads import train; print(train({contender.threads}, {seconds}))"
    done = subprocess.run([sys.executable, "-c", code], env=variables, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main(rounds: int = 3, seconds: float = 4.0) -> None:
    """Let all take turns, beside nothing and beside a busy process a core.

    Args:
        rounds: turns of each.
        seconds: of one turn, after its warm-up.
    """
    cores = len(os.sched_getaffinity(0))
    contenders = (
        Contender(f"{cores} threads that spin (OpenMP's default)", cores, ""),
        Contender(f"{cores} threads that sleep (`coterie`)", cores, "PASSIVE"),
        Contender("1 thread", 1, "PASSIVE"),
    )
    rows = []
    for n_busy in (0, cores):
        rates: dict[Contender, list[float]] = {contender: [] for contender in contenders}
        with ExitStack() as stack:
            for _ in range(n_busy):
                stack.callback(subprocess.Popen([sys.executable, "-c", SPIN]).kill)
            load = OthersLoad()
            for _ in range(rounds):
                for contender in contenders:
                    rates[contender].append(run_one(contender, seconds))
                    print(n_busy, contender.title, round(rates[contender][-1]), flush=True)
            others = load.cores()
        first = rates[contenders[0]]
        for contender, own in rates.items():
            ratio = statistics.median(a / b for a, b in zip(own, first, strict=True))
            rows.append([n_busy, f"{others:.1f}", contender.title, f"{statistics.median(own):.0f}", f"{ratio:.2f}"])
    table = markdown_table(("busy processes", "others, cores", "", "images/s", "times the default"), rows)
    write_result(__file__, f"{__doc__}\n{table}")


if __name__ == "__main__":
    command(main)
