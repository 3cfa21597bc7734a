"""What engines cost, and what they bring, on the same cores.

Question: how long do the specialists of a run take one after another, by workers side by side, and as tasks of a Ray
cluster on this machine; and what does each engine cost beside the training itself?

All engines do the same eight trainings from the same untrained base, on the embedded data set, and must give the same
bits. Rounds are interleaved; of the wall times the smallest counts, since other work on the machine only adds to them.
CPU seconds are those of this process and all that it started, Ray's among them; they grow little under other work. With
``--parallel``, only the engines that train side by side are compared.
"""

import os
import statistics
import time
from contextlib import closing
from functools import partial

import psutil
import torch

from benchmarks.shared import command, plain, shared_by_trainings, write_result
from coterie.config import EngineSettings
from coterie.data import load
from coterie.engine import Resources, TaskContext, make_engine
from coterie.pipeline.prepare import prepare
from coterie.pipeline.training_task import TrainingTask
from coterie.progress import Progress

N_SPECIALISTS = 8
ENGINES = {
    "one after another, in this process": EngineSettings(workers=1),
    "two workers": EngineSettings(workers=2),
    "Ray, started on this machine": EngineSettings(engine="ray"),
}


class FirstStep(Progress):
    """When the first step was reported."""

    def __init__(self) -> None:
        self.at: float | None = None

    def lane(self) -> Progress:
        return self

    def stage(self, title: str, steps: int) -> None:
        if self.at is None:
            self.at = time.perf_counter()


def cpu_seconds() -> dict[int, float]:
    """Of this process and all below it, by process."""
    seconds = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds[process.pid] = times.user + times.system
    return seconds


def _same(context: TaskContext, _: object) -> TaskContext:
    return context


def main(rounds: int = 3, per_class: int = 48, epochs: int = 4, parallel: bool = False) -> None:
    """Time them.

    Args:
        rounds: of all engines in turn.
        per_class: training images of each class.
        epochs: of each specialist.
        parallel: only engines that train side by side.
    """
    engines = list(ENGINES)[1:] if parallel else list(ENGINES)
    settings = plain(
        {
            "data": {"train_per_class": per_class},
            "backbone": "convnet-32",
            "specialist": {"epochs": epochs},
            "hardware": {"accelerator": "cpu"},
        }
    )
    splits = load(settings.data, settings.seed)
    prepared = prepare(settings, splits=splits)
    inputs = shared_by_trainings(prepared)
    classes = torch.arange(len(splits.labels)).chunk(N_SPECIALISTS)
    tasks = [
        TrainingTask(f"specialist {k}", f"{k}", tuple(part.tolist()), settings.specialist, k, None, 1)
        for k, part in enumerate(classes)
    ]
    walls: dict[str, list[float]] = {name: [] for name in engines}
    starts: dict[str, list[float]] = {name: [] for name in engines}
    cpus: dict[str, list[float]] = {name: [] for name in engines}
    weights: list[dict[str, torch.Tensor]] = []
    for _ in range(rounds):
        for name in engines:
            before = cpu_seconds()
            seen: dict[int, float] = {}
            first = FirstStep()
            context = TaskContext(first)
            started = time.perf_counter()
            resources = Resources()
            engine = make_engine(ENGINES[name], len(tasks), resources)
            trained = {}
            with closing(engine.run(tasks, inputs, resources, partial(_same, context))) as outcomes:
                for outcome in outcomes:
                    trained[outcome.number] = outcome.unwrap()
                    seen |= cpu_seconds()
                    ended = time.perf_counter()
            assert first.at is not None
            walls[name].append(ended - started)
            starts[name].append(first.at - started)
            cpus[name].append(sum(seen.values()) - sum(before.get(pid, 0.0) for pid in seen))
            weights.append({f"{n}.{key}": w for n, t in trained.items() for key, w in t.weights.items()})
            print(name, f"{walls[name][-1]:.1f} s", f"{cpus[name][-1]:.1f} CPU s", os.getloadavg(), flush=True)
    same = all(torch.equal(other[key], weights[0][key]) for other in weights for key in weights[0])
    assert same
    local, after = (
        min(walls["two workers"]),
        {name: min(wall - start for wall, start in zip(walls[name], starts[name], strict=True)) for name in engines},
    )
    rows = "\n".join(
        f"| {name} | {min(walls[name]):.1f} | {statistics.median(walls[name]):.1f} | {min(starts[name]):.1f} "
        f"| {min(cpus[name]):.1f} | {100 * (min(walls[name]) / local - 1):+.0f} % "
        f"| {100 * (after[name] / after['two workers'] - 1):+.0f} % "
        f"| {min(cpus[name]) - min(cpus['two workers']):+.1f} |"
        for name in engines
    )
    n_images = epochs * len(splits.train)
    write_result(
        __file__,
        f"{N_SPECIALISTS} specialists, {epochs} epochs each, {n_images:,} images in all; {rounds} interleaved rounds; "
        f"one thread a specialist. Load of the machine by this and other work at the end: {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores.\n\n"
        "| engine | wall, s, smallest | median | of it before the first step | CPU s, smallest "
        "| wall against two workers | the same after the first step | CPU s more than two workers |\n"
        "|---|---|---|---|---|---|---|---|\n"
        f"{rows}\n\nAll rounds of all engines gave the same bits.",
    )


if __name__ == "__main__":
    command(main)
