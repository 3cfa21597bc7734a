"""How far a run is: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from typing_extensions import override

from coterie.pages.format import count, decimal, percent, rough_duration
from coterie.progress import Progress

SECONDS_PER_LINE = 30.0
# Finished stages leave the display when there are more.
BARS = 24


class BarProgress(Progress):
    """A bar per stage, on a terminal; a lane has one, for the stage that it is at."""

    def __init__(self, console: Console, bars: Bars | None = None) -> None:
        self.bars = _make_bars(console) if bars is None else bars
        self.is_lane = bars is not None
        self.task: TaskID | None = None
        self.rate = _Rate()

    def __enter__(self) -> BarProgress:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    @override
    def stage(self, title: str, steps: int) -> None:
        if self.is_lane and self.task is not None:
            self.bars.remove_task(self.task)
        finished = [task.id for task in self.bars.tasks if task.finished]
        for task in finished[: max(0, len(self.bars.tasks) + 1 - BARS)]:
            self.bars.remove_task(task)
        self.task = self.bars.add_task(f"{title:<20}", total=steps or None, figures="")
        self.rate = _Rate()

    @override
    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        if self.task is not None:
            self.bars.update(self.task, advance=steps, figures=self.rate.figures(n_images, loss, accuracy))

    @override
    def lane(self) -> BarProgress:
        return BarProgress(self.bars.console, self.bars)

    @override
    def note(self, text: str) -> None:
        self.bars.console.print(text, highlight=False)


def _make_bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


class LineProgress(Progress):
    """A line now and then, where the output goes to a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title, self.steps, self.done = "", 0, 0
        self.rate = _Rate()
        self.printed = 0.0
        # When the first steps were reported, and how many they were: those of a stage that goes on took no time.
        self.first: tuple[float, int] | None = None

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @override
    def stage(self, title: str, steps: int) -> None:
        self.title, self.steps, self.done = title, steps, 0
        self.rate = _Rate()
        self.printed = time.monotonic()
        self.first = None

    @override
    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        self.done += steps
        figures = self.rate.figures(n_images, loss, accuracy)
        now = time.monotonic()
        self.first = self.first or (now, self.done)
        if self.done >= self.steps > 0 or now - self.printed > SECONDS_PER_LINE:
            self.printed = now
            of = f"/{self.steps}" if self.steps else ""
            elapsed = rough_duration(now - self.rate.started)
            self.note(f"{self.title:<20} {self.done}{of} {figures}  {elapsed}{self._left(now)}")

    def _left(self, now: float) -> str:
        began, before = self.first or (now, self.done)
        if not self.steps or self.done == before < self.steps:
            return ""
        return f", left {rough_duration((now - began) * (self.steps - self.done) / max(1, self.done - before))}"

    @override
    def lane(self) -> LineProgress:
        return LineProgress(self.console)

    @override
    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)


class _Rate:
    """Images per second since the stage began, and the training figures of the last steps."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.images = 0

    def figures(self, n_images: int, loss: float | None, accuracy: float | None) -> str:
        self.images += n_images
        parts = []
        if loss is not None and accuracy is not None:
            parts += [f"loss {decimal(loss, 3)}", f"accuracy {percent(accuracy, 1)}"]
        if self.images:
            parts.append(f"{count(self.images / max(time.monotonic() - self.started, 1e-6))} samples/s")
        return "  ".join(parts)


def make_progress(console: Console) -> BarProgress | LineProgress:
    """Bars on a terminal, lines elsewhere."""
    return BarProgress(console) if console.is_terminal else LineProgress(console)
