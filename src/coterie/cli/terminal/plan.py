"""The plan of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from coterie.cli.terminal.tables import print_figures
from coterie.pages.format import count, decimal, mebibytes, rough_duration
from coterie.pipeline.plan import Plan

# Cores that others kept busy, below which they are no reason for a plan that is far off.
WORTH_SAYING = 0.25
# Seconds of a run, above which a shorter way is named.
LONG = 3600
# Skipped samples that are shown.
FEW = 5


def print_skipped(console: Console, skipped: Sequence[str], file: Path) -> None:
    """How many samples were left out, the first of them, and where the run lists all."""
    if skipped:
        more = f"; the run lists all in {file}; the first" if skipped[FEW:] else ""
        shown = "".join(f"\n  {name}" for name in skipped[:FEW])
        console.print(f"skipped: {len(skipped):,}{more}:{shown}", highlight=False, markup=False, soft_wrap=True)


def print_plan(console: Console, plan: Plan, about: str) -> None:
    """What will be trained, and how long it should take."""
    console.print(about, highlight=False)
    table = Table("stage", title="Plan", title_justify="left")
    for heading in ("samples", "epochs", "steps", "about"):
        table.add_column(heading, justify="right")
    for stage in plan.stages:
        table.add_row(
            stage.title,
            count(stage.n_images),
            str(stage.epochs),
            count(stage.steps) if stage.steps else "",
            rough_duration(stage.seconds),
        )
    print_figures(console, table)
    console.print(
        f"{count(plan.parameters)} weights, {plan.precision} on {plan.device}. "
        f"About {rough_duration(plan.seconds)} in all, from a measured warm-up{_load(plan)}; "
        f"at most {mebibytes(plan.disk_bytes)} on disk.",
        highlight=False,
    )


def print_shorter(console: Console, plan: Plan) -> None:
    """How a run that was left to choose its network would take less, where it takes long."""
    if plan.frozen_seconds is not None and plan.seconds > LONG:
        console.print(
            f"--data.text-as minilm takes about {rough_duration(plan.frozen_seconds)}: the same network is left as it "
            "comes, and a head is trained on its embeddings, which costs some accuracy",
            highlight=False,
            soft_wrap=True,
        )


def _load(plan: Plan) -> str:
    """The load that the plan was measured under, where there was any."""
    if plan.others < WORTH_SAYING:
        return ""
    return f" while other processes kept {decimal(plan.others, 1)} cores busy (on a quiet machine less)"
