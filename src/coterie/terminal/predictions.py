"""Predictions with their reasons."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coterie.ensemble import Explanation


def print_predictions(console: Console, rows: Sequence[tuple[str, Explanation]]) -> None:
    """One row per sample."""
    table = Table("sample", "class")
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
