"""What the command line prints: progress, the plan, tables of figures."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from coterie.ensemble import Explanation
from coterie.metrics import Report
from coterie.partition_page import quality_rows
from coterie.partition_study import Study
from coterie.plan import Plan
from coterie.progress import Progress
from coterie.run_folder import Manifest

SECONDS_PER_LINE = 30.0
CLUSTERS_SHOWN = 12


def show_duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class BarProgress(Progress):
    """A bar per stage, on a terminal."""

    def __init__(self, console: Console) -> None:
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task: TaskID | None = None
        self.rate = _Rate()

    def __enter__(self) -> BarProgress:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    @override
    def stage(self, title: str, steps: int) -> None:
        self.task = self.bars.add_task(f"{title:<20}", total=steps, figures="")
        self.rate = _Rate()

    @override
    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        if self.task is not None:
            self.bars.update(self.task, advance=steps, figures=self.rate.figures(n_images, loss, accuracy))

    @override
    def note(self, text: str) -> None:
        self.bars.console.print(text, highlight=False)


class LineProgress(Progress):
    """A line now and then, where the output goes to a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title, self.steps, self.done = "", 0, 0
        self.rate = _Rate()
        self.printed = 0.0

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @override
    def stage(self, title: str, steps: int) -> None:
        self.title, self.steps, self.done = title, steps, 0
        self.rate = _Rate()
        self.printed = time.monotonic()

    @override
    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        self.done += steps
        figures = self.rate.figures(n_images, loss, accuracy)
        now = time.monotonic()
        if self.done >= self.steps or now - self.printed > SECONDS_PER_LINE:
            self.printed = now
            elapsed = now - self.rate.started
            left = elapsed * (self.steps - self.done) / self.done
            self.note(
                f"{self.title:<20} {self.done}/{self.steps} {figures}  {show_duration(elapsed)}, "
                f"left {show_duration(left)}"
            )

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
            parts += [f"loss {loss:.3f}", f"accuracy {accuracy:.1%}"]
        if self.images:
            parts.append(f"{self.images / max(time.monotonic() - self.started, 1e-6):,.0f} images/s")
        return "  ".join(parts)


def make_progress(console: Console) -> BarProgress | LineProgress:
    """Bars on a terminal, lines elsewhere."""
    return BarProgress(console) if console.is_terminal else LineProgress(console)


def print_plan(console: Console, plan: Plan, about: str) -> None:
    """What will be trained, and how long it should take."""
    console.print(about, highlight=False)
    table = Table("stage", title="Plan", title_justify="left")
    for heading in ("images", "epochs", "steps", "about"):
        table.add_column(heading, justify="right")
    for stage in plan.stages:
        table.add_row(
            stage.title,
            f"{stage.n_images:,}",
            str(stage.epochs),
            f"{stage.steps:,}" if stage.steps else "",
            show_duration(stage.seconds),
        )
    console.print(table)
    console.print(
        f"{plan.parameters:,} weights, {plan.precision} on {plan.device}. "
        f"About {show_duration(plan.seconds)} in all, from a measured warm-up.",
        highlight=False,
    )


def print_report(console: Console, report: Report, labels: Sequence[str]) -> None:
    """The headline, and the table of clusters."""
    console.print(headline(report), highlight=False)
    table = Table(
        title="Accuracy within each true cluster, in %", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("cluster", no_wrap=True, min_width=7)
    # Whatever the figures leave of the line is for names.
    table.add_column("classes", no_wrap=True, overflow="ellipsis", width=max(10, console.width - 69))
    for heading in ("images", "base", "restr.", "spec.", "base@3", "restr.@3", "spec.@3"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for row in report.clusters:
        table.add_row(
            str(row.cluster),
            Text(f"{len(row.classes)}: " + ", ".join(labels[k] for k in row.classes)),
            f"{row.n_samples:,}",
            *(
                f"{100 * value:.2f}"
                for value in (
                    row.base_top1,
                    row.restricted_top1,
                    row.specialist_top1,
                    row.base_top3,
                    row.restricted_top3,
                    row.specialist_top3,
                )
            ),
        )
    console.print(table)
    console.print(
        "base: over all classes; restr.: the base among the cluster's classes; spec.: the specialist, asked for all of "
        "them; @3: the true class is among the first three.",
        highlight=False,
    )


def headline(report: Report) -> str:
    """Base, ensemble, gain and what it costs, in a few lines."""
    gain = (
        f"{100 * report.gain:+.2f} points (95 % interval {100 * report.gain_low:+.2f} to {100 * report.gain_high:+.2f})"
    )
    verdict = "" if report.gain_low > 0 or report.gain_high < 0 else ": not told apart from none"
    return (
        f"base {report.base_top1:.2%}, ensemble {report.ensemble_top1:.2%} on {report.n_samples:,} images: "
        f"{gain}{verdict}\n"
        f"routed {report.routed_fraction:.1%}, so {report.mean_passes:.2f} forward passes on average; "
        f"the right cluster is chosen for {report.router_accuracy:.1%}\n"
        f"in the true cluster: restricted base {report.oracle_restricted:.2%}, "
        f"specialists {report.oracle_specialist:.2%}"
    )


def print_partition(console: Console, study: Study) -> None:
    """Sizes and figures of a partition, and its largest clusters."""
    partition, quality = study.partition, study.quality
    console.print(
        f"{partition.n_classes:,} classes in {partition.n_clusters:,} clusters of {quality.smallest:,} to "
        f"{quality.largest:,} classes (median {quality.median:,.0f})",
        highlight=False,
    )
    if study.choice is not None:
        console.print(f"number of clusters chosen by {study.choice.criterion}", highlight=False)
    figures = Table(show_header=False, box=None)
    for title, value, meaning in quality_rows(quality):
        figures.add_row(title, value, meaning)
    console.print(figures)
    table = Table(title="The largest clusters", title_justify="left")
    for heading in ("cluster", "classes"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    table.add_column("names", no_wrap=True, overflow="ellipsis", ratio=1)
    for cluster in sorted(range(partition.n_clusters), key=lambda k: -partition.size_S[k])[:CLUSTERS_SHOWN]:
        classes = partition.classes(cluster)
        names = ", ".join(study.data.names[k] for k in classes[:20].tolist())
        table.add_row(str(cluster), f"{len(classes):,}", Text(names))
    console.print(table)


def print_info(console: Console, path: str, manifest: Manifest, size: int) -> None:
    """What a run folder holds."""
    table = Table(show_header=False, box=None)
    data = manifest.data
    rows = {
        "run": path,
        "state": "finished" if manifest.complete else "unfinished: the same `coterie fit` command goes on with it",
        "data": data.about if data else "not yet read",
        "classes": str(len(data.classes)) if data else "",
        "backbone": str(manifest.settings.get("backbone")),
        "head": f"{manifest.head.path} ({manifest.head.in_features} to {manifest.head.out_features})"
        if manifest.head
        else "",
        "clusters": ", ".join(str(len(m)) for m in manifest.partition.members) + " classes"
        if manifest.partition
        else "",
        "gate": f"{manifest.gate.score} at {manifest.gate.threshold} nats, {manifest.gate.combiner}"
        if manifest.gate
        else "",
        "trained": "; ".join(f"{name} {show_duration(seconds)}" for name, seconds in manifest.seconds.items()),
        "files": f"{len(manifest.files)}, {size / 2**20:.1f} MiB",
        "versions": ", ".join(f"{name} {number}" for name, number in manifest.versions.items()),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value, overflow="fold"))
    console.print(table)


def print_predictions(console: Console, rows: Sequence[tuple[str, Explanation]]) -> None:
    """One row per image."""
    table = Table("file", "class")
    table.add_column("probability", justify="right")
    for heading in ("routed to", "the base had said"):
        table.add_column(heading)
    for name, explanation in rows:
        base = ", ".join(f"{label} {probability:.1%}" for label, probability in explanation.base_top)
        names = ", ".join(explanation.cluster_classes)
        where = f"{explanation.cluster}: {names if len(names) < 40 else names[:36] + ' ...'}"
        table.add_row(
            Text(name, overflow="fold"),
            Text(explanation.predicted),
            f"{explanation.probability:.1%}",
            Text(where if explanation.routed else "-", overflow="fold"),
            Text(base, overflow="fold"),
        )
    console.print(table)
