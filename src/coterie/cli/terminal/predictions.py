"""Predictions with their reasons."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coterie.ensemble.explanation import Explanation
from coterie.pages.format import percent


def print_predictions(console: Console, rows: Sequence[tuple[str, Explanation]]) -> None:
    """One row per sample."""
    table = Table("sample", "class")
    table.add_column("probability", justify="right")
    for heading in ("routed to", "the base had said"):
        table.add_column(heading)
    for name, explanation in rows:
        base = ", ".join(f"{label} {percent(probability, 1)}" for label, probability in explanation.base_top)
        table.add_row(
            Text(" ".join(name.splitlines()), overflow="fold"),  # of a text, whose lines would be rows
            Text(explanation.predicted),
            percent(explanation.probability, 1),
            Text(_where(explanation), overflow="fold"),
            Text(base, overflow="fold"),
        )
    console.print(table)


def _where(explanation: Explanation) -> str:
    """The cluster that was asked, by its classes; of others, the numbers."""
    if not explanation.routed:
        return "-"
    names = ", ".join(explanation.cluster_classes) or "all classes"
    asked = [answer.cluster for answer in explanation.specialists]
    others = "".join(f", {cluster}" for cluster in asked if cluster != explanation.cluster)
    return f"{explanation.cluster}{others}: {names if len(names) < 40 else names[:36] + ' ...'}"
