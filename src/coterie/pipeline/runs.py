"""Whole runs as tasks: a study is a list of them, done one after another, by workers beside this process, or on a Ray
cluster.

Each run resumes by itself in its own folder. On a cluster the folders must be on a file system that all nodes see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from torch import cuda
from typing_extensions import override

from coterie.config import EngineSettings, FitSettings
from coterie.data.splits import Splits
from coterie.engine import Outcome, Resources, Task, TaskContext, check_engine, make_engine
from coterie.engine.task import ResultT, SharedT
from coterie.errors import EngineError, LimitError
from coterie.pipeline.defaults import with_backbone
from coterie.pipeline.fit import fit
from coterie.pipeline.prepare import Prepared, prepare
from coterie.pipeline.specialists import MEMORY_BYTES
from coterie.progress import SILENT, Progress
from coterie.run.folder import FinishedRun, Run
from coterie.system.limits import NO_LIMITS, LimitedProgress, Limits
from coterie.system.lock import refuse_if_held


@dataclass(frozen=True)
class FitTask(Task[Splits | None, Path]):
    """A run: ``pipeline.fit`` with these arguments.

    Args:
        title: for people.
        settings: of the run.
        out: its folder, an absolute path.
        base_run: see ``fit``.
        engine: who trains the specialists of a run that has the machine to itself. None, for one of several: its
            specialists come one after another where it is, and it takes CPU threads ``as_task``.
    """

    title: str
    settings: FitSettings
    out: Path
    base_run: Path | None = None
    engine: EngineSettings | None = None

    @override
    def run(self, shared: Splits | None, context: TaskContext) -> Path:
        check_folder(self.out)
        progress = TitledProgress(context.progress, self.title)
        settings, engine = self.settings, self.engine
        if engine is None:
            settings, engine = as_task(settings), EngineSettings(workers=1)
        fit(settings, self.out, splits=shared, base_run=self.base_run, progress=progress, engine=engine)
        return self.out


def as_task(settings: FitSettings) -> FitSettings:
    """One CPU thread unless the settings say otherwise, wherever the task is done: others give other last bits."""
    hardware = settings.hardware
    return settings.model_copy(update={"hardware": hardware.model_copy(update={"threads": hardware.threads or 1})})


def tasks_of_seeds(settings: FitSettings, out: Path, seeds: int) -> list[FitTask]:
    """Runs that differ in their seed alone, in OUT/seed-N. All have the splits of the first, so that they can be
    compared sample by sample.
    """
    return [
        FitTask(f"seed {seed}", settings.with_seed(seed), (out / f"seed-{seed}").absolute())
        for seed in range(settings.seed, settings.seed + seeds)
    ]


class TitledProgress(Progress):
    """Names the run before each of its stages."""

    def __init__(self, inner: Progress, title: str) -> None:
        self.inner = inner
        self.title = title

    @override
    def stage(self, title: str, steps: int) -> None:
        self.inner.stage(f"{self.title}: {title}", steps)

    @override
    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        self.inner.advance(steps, n_images, loss, accuracy)

    @override
    def note(self, text: str) -> None:
        self.inner.note(f"{self.title}: {text}")

    @override
    def lane(self) -> Progress:
        return TitledProgress(self.inner.lane(), self.title)


def check_folder(out: Path) -> None:
    """A run's folder is where the process that asked for it will look.

    Raises:
        EngineError: the folder above it, which that process made, is not here.
    """
    if not out.is_absolute() or not out.parent.is_dir():
        raise EngineError(
            f"{out.parent} is not seen from here: runs on a cluster need a file system that all nodes see"
        )


def do_all(
    tasks: Sequence[Task[SharedT, ResultT]],
    shared: SharedT,
    resources: Resources,
    engine: EngineSettings,
    progress: Progress,
    limits: Limits,
) -> list[Outcome[ResultT]]:
    """Do tasks that depend on nothing but what they share, each with a line of its own in one display.

    Returns:
        The outcomes, in the order of the tasks; a failure in one loses none of the others.

    Raises:
        EngineError: there is nobody to do the work.
        LimitError: a limit is reached, of all tasks together or of one; the same call goes on with what is left.
    """
    maker = make_engine(engine, len(tasks), resources)
    limited = LimitedProgress(progress, limits)
    found = []
    with closing(maker.run(tasks, shared, resources, lambda _: TaskContext(limited.lane()))) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome.error, LimitError):
                raise outcome.error
            found.append(outcome)
    return sorted(found, key=lambda outcome: outcome.number)


def fit_all(
    tasks: Sequence[FitTask],
    splits: Splits | None = None,
    engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
    progress: Progress = SILENT,
    limits: Limits = NO_LIMITS,
) -> list[Outcome[Path]]:
    """Do runs; those whose base is another's come in a later list than that one.

    Args:
        tasks: the runs, in folders with absolute paths.
        splits: data that all of them use; None lets each read its own.
        engine: who does them.
        progress: progress callback.
        limits: of all runs together.

    Returns:
        As ``do_all``: the folder of each run, or its error.

    Raises:
        LimitError: as ``do_all``.
    """
    for task in tasks:
        task.out.parent.mkdir(parents=True, exist_ok=True)
    return do_all(tasks, splits, resources_of([task.settings for task in tasks]), engine, progress, limits)


@dataclass(frozen=True)
class SeedRuns:
    """Runs that differ in their seed: the finished ones by title, and a line about each that failed."""

    finished: dict[str, FinishedRun]
    failed: tuple[str, ...]


def fit_seeds(
    settings: FitSettings,
    out: Path,
    seeds: int,
    *,
    progress: Progress = SILENT,
    engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
    limits: Limits | None = None,
    announce: Callable[[Prepared], None] = lambda _: None,
) -> SeedRuns:
    """Do runs with ``settings.seed`` and those after it, in OUT/seed-N, on the same splits.

    Args:
        settings: of the first run.
        out: the folder above the runs'.
        seeds: number of runs.
        progress: progress callback.
        engine: who does the runs.
        limits: of all runs together. Default: those of the settings, with the time counted from now.
        announce: called with what was prepared for the first run, before any is begun.

    Raises:
        LimitError: a limit is reached; the same call goes on.
        CoterieError: as ``fit``, where it holds for all runs.
    """
    limits = Limits(settings.max_time, settings.max_memory) if limits is None else limits
    settings, _ = with_backbone(settings, out / f"seed-{settings.seed}")
    refuse_if_held(out)
    check_engine(engine)
    prepared = prepare(tasks_of_seeds(settings, out, 1)[0].settings)
    announce(prepared)
    # What a recipe came to may rest on a measured time: it is found once for all.
    tasks = tasks_of_seeds(prepared.settings, out, seeds)
    outcomes = fit_all(tasks, prepared.splits, engine, progress, limits)
    done = [task for task, outcome in zip(tasks, outcomes, strict=True) if outcome.error is None]
    return SeedRuns(
        {task.title: Run.open_complete(task.out) for task in done},
        tuple(f"{tasks[outcome.number].title}: {outcome.error}" for outcome in outcomes if outcome.error is not None),
    )


def resources_of(settings: Sequence[FitSettings], seconds: float = math.inf) -> Resources:
    """What each of a list of tasks needs that train with these settings; ``seconds`` for all of them."""
    hardware = [each.hardware for each in settings]
    gpus = int(
        any(each.accelerator == "cuda" or (each.accelerator == "auto" and cuda.is_available()) for each in hardware)
    )
    return Resources(max((each.threads or 1 for each in hardware), default=1), gpus, MEMORY_BYTES, seconds)
