"""The plan of a run."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from coterie.cli.terminal.progress import show_duration
from coterie.pipeline.plan import Plan


def print_plan(console: Console, plan: Plan, about: str) -> None:
    """What will be trained, and how long it should take."""
    console.print(about, highlight=False)
    table = Table("stage", title="Plan", title_justify="left")
    for heading in ("samples", "epochs", "steps", "about"):
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
        f"About {show_duration(plan.seconds)} in all, from a measured warm-up; "
        f"at most {plan.disk_bytes / 2**20:,.0f} MiB on disk.",
        highlight=False,
    )
