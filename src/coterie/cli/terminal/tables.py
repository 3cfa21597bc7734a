"""Tables on terminals of any width."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

# Wider than any table.
WIDE = 10_000


def print_figures(console: Console, table: Table) -> None:
    """Print a table of figures whole: a terminal that is too narrow breaks its lines; rich would leave columns out."""
    natural = Measurement.get(console, console.options.update(width=WIDE, max_width=WIDE), table).maximum
    if natural > console.width:
        table.width = natural
    console.print(table, crop=False)
