"""The choice of a rule."""

from __future__ import annotations

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from coterie.cli.terminal.tables import print_figures
from coterie.pages.format import decimal, percent, points
from coterie.partition import Partition
from coterie.routing.tune import Tuning

ROWS_SHOWN = 12


def print_tuning(console: Console, tuning: Tuning, partition: Partition) -> None:
    """The best of what was tried, the choice, and what must be said of it."""
    table = Table(
        title="Rules on validation, cross-fitted", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for heading in ("", "combiner", "gate"):
        table.add_column(heading, no_wrap=True)
    for heading in ("accuracy", "gain", "passes", "routed"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = tuning.candidates[:ROWS_SHOWN]
    if tuning.chosen is not None and tuning.chosen not in shown:
        shown += (tuning.chosen,)
    for row in shown:
        table.add_row(
            "✓" if row is tuning.chosen else "",
            row.combination.title,
            row.score,
            percent(row.accuracy),
            points(row.gain),
            decimal(row.passes),
            percent(row.routed, 1),
        )
    print_figures(console, table)
    console.print(
        f"{len(tuning.candidates)} tried; ✓ chosen.\n{_describe(tuning, partition)}",
        highlight=False,
    )
    if tuning.note:
        console.print(tuning.note, highlight=False)


def _describe(tuning: Tuning, partition: Partition) -> str:
    rule = tuning.rule
    threshold = f"at {rule.gate.threshold:.4g} and above" if np.isfinite(rule.gate.threshold) else "never"
    lines = [f"routed {threshold} ({rule.gate.score}); weights {_spread(rule.combiner.weight_S)}; temperatures "]
    lines[0] += f"{decimal(rule.temperatures.base)} (base), {_spread(rule.temperatures.specialist_S)} (specialists), "
    lines[0] += f"{decimal(rule.combiner.temperature)} (their mixture)"
    fallen_back = rule.fallen_back(partition)
    if fallen_back:
        clusters = ", ".join(map(str, fallen_back))
        lines.append(f"no weight for the specialists of clusters {clusters}: no better than the restricted base")
    return "\n".join(lines)


def _spread(values: tuple[float, ...]) -> str:
    low, high = min(values), max(values)
    return decimal(low) if low == high else f"{decimal(low)} to {decimal(high)}"
