"""CPU threads of the base's training: torch's number; fewer where others use the cores and fewer are faster.

Another number gives other last bits. So the run records it, and nothing is changed that the user has named.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from typing_extensions import override

from coterie.pages.format import decimal
from coterie.pipeline.prepare import Prepared
from coterie.pipeline.timing import cpu_threads, training_seconds
from coterie.progress import Progress
from coterie.run.folder import Run
from coterie.run.names import BASE_FILE
from coterie.system.load import OthersLoad
from coterie.system.ranks import Ranks
from coterie.system.units import how_many
from coterie.training.checkpoint import State
from coterie.training.hooks import TrainingHook

# Cores that others keep busy, below which nothing is chosen: the bits of a result are worth more than a few percent.
BUSY_CORES = 0.25
# Times as fast that fewer threads must be: a few timed steps are off by some percent.
CLEARLY = 1.2
# An epoch that takes this many times as long as the best one is looked into.
FALLEN = 2.0
OVERRULED = "--hardware.threads {} overrules this, and fixes the last bits of the result"


def settle_threads(prepared: Prepared, run: Run, load: OthersLoad, progress: Progress) -> Prepared:
    """With the number of threads that the base's training begins with, where it is open to choice: of a run that goes
    on, those that it had; beside others, the number that a few steps take least time with.

    Args:
        prepared: of the run.
        run: the folder, which may hold a part of the run.
        load: what others used while the run was prepared.
        progress: told what was chosen.
    """
    most, recorded = torch.get_num_threads(), run.manifest.base_threads
    if most == 1 or not _may_choose(prepared) or run.has(BASE_FILE):
        return prepared
    if recorded:
        return replace(prepared, base_threads=min(recorded[-1][1], most))
    if load.cores() < BUSY_CORES:
        return replace(prepared, base_threads=most)
    settings, splits, base, fabric = prepared.settings, prepared.splits, prepared.base, prepared.fabric
    chosen, gained = _fastest(most, lambda: training_seconds(settings, splits, base, fabric, base.whole))
    if chosen < most:
        progress.note(
            f"base: {how_many(chosen, 'CPU thread')} in place of {most}, {decimal(gained, 1)} times as fast beside "
            f"what else runs here; {OVERRULED.format(most)}"
        )
    return replace(prepared, base_threads=chosen)


def _may_choose(prepared: Prepared) -> bool:
    named = prepared.settings.hardware.threads is not None or "OMP_NUM_THREADS" in os.environ
    trains = not prepared.base.trained and prepared.base_run is None
    return trains and not named and prepared.fabric.device.type == "cpu" and Ranks.of_environment().world == 1


def _fastest(most: int, seconds: Callable[[], float]) -> tuple[int, float]:
    """Of ``most`` threads, half of them, and so on, those that are clearly fastest; and how many times as fast they are
    as ``most``.
    """
    all_seconds = best_seconds = _timed(most, seconds)
    chosen = most
    while chosen > 1 and best_seconds > 0:
        fewer_seconds = _timed(chosen // 2, seconds)
        if fewer_seconds * CLEARLY > best_seconds:
            break
        chosen, best_seconds = chosen // 2, fewer_seconds
    return chosen, all_seconds / best_seconds if best_seconds > 0 else 1.0


def _timed(threads: int, seconds: Callable[[], float]) -> float:
    with cpu_threads(threads):
        return seconds()


class ThreadWatch(TrainingHook):
    """Records the threads that the base is trained with. Where an epoch takes more than twice the time of the best one,
    the next has half of the threads, and keeps them if it is faster; once others leave the cores, it has all again.

    Args:
        inner: the hook that all calls are passed on to.
        run: holds the record.
        progress: told of each change.
        most: threads that the training may have.
        adapts: whether the number may change.
        load: makes what measures others' use of the cores.
        clock: seconds.
    """

    def __init__(
        self,
        inner: TrainingHook,
        run: Run,
        progress: Progress,
        *,
        most: int,
        adapts: bool,
        load: Callable[[], OthersLoad] = OthersLoad,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self.run = run
        self.progress = progress
        self.most = most
        self.adapts = adapts
        self.new_load, self.clock = load, clock
        self.others, self.started = load(), clock()
        self.best_seconds = math.inf
        # The seconds and threads of an epoch that was slow, until the next one is done.
        self.slow: tuple[float, int] | None = None
        self.from_its_start = True

    @override
    def load(self) -> State | None:
        state = self.inner.load()
        # An epoch that is gone on with is shorter than a whole one.
        self.from_its_start = state is None
        if not self.run.manifest.base_threads:
            self._record(0)
        self._start()
        return state

    @override
    def step(self, capture: Callable[[], State]) -> None:
        self.inner.step(capture)

    @override
    def epoch(self, history: Sequence[tuple[float, float]], capture: Callable[[], State]) -> None:
        self.inner.epoch(history, capture)
        self._record(len(history) - 1)
        if self.adapts and self.from_its_start:
            self._look(self.clock() - self.started)
            self._record(len(history))
        self.from_its_start = True
        self._start()

    def _start(self) -> None:
        self.others, self.started = self.new_load(), self.clock()

    def _look(self, seconds: float) -> None:
        threads, slow, self.slow = torch.get_num_threads(), self.slow, None
        if slow is not None and seconds > slow[0]:
            self.best_seconds = slow[0]  # so that the same slowness is not looked into again
            self._take(slow[1], f"with {threads} the epoch took {decimal(seconds / slow[0], 1)} times as long")
        elif threads < self.most and self.others.cores() < BUSY_CORES:
            self._take(self.most, "nothing else uses the cores any more")
        elif threads > 1 and seconds > FALLEN * self.best_seconds:
            self.slow = seconds, threads
            times = decimal(seconds / self.best_seconds, 1)
            self._take(threads // 2, f"the epoch took {times} times as long as the best one")
        self.best_seconds = min(self.best_seconds, seconds)

    def _take(self, threads: int, why: str) -> None:
        self.progress.note(
            f"base: {how_many(threads, 'CPU thread')} from here, since {why}; {OVERRULED.format(self.most)}"
        )
        torch.set_num_threads(threads)

    def _record(self, epoch: int) -> None:
        recorded, threads = self.run.manifest.base_threads, torch.get_num_threads()
        if not recorded or recorded[-1][1] != threads:
            self.run.update(base_threads=(*recorded, (epoch, threads)))
