"""A distilled network beside its controls."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from coterie.cli.terminal.tables import print_figures
from coterie.pages.format import decimal, gain, hundredths
from coterie.pipeline.distil import BASE, DistilledRow


def print_distilled(console: Console, rows: tuple[DistilledRow, ...]) -> None:
    """The table, and what part of the ensemble's gain is left."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("test, in %", min_width=10)
    for heading in ("top-1", "gain over base", "distilled's lead", "passes", "disk"):
        table.add_column(heading, justify="right", min_width=min(len(heading), 6))
    student, ensemble = rows[:2]
    for row in rows:
        over = "" if row.name == BASE else gain(row.gain)
        lead = "" if row is student else gain(row.lead)
        cells = (row.name, hundredths(row.accuracy), over, lead, decimal(row.passes), decimal(row.storage))
        table.add_row(*cells, style="bold" if row is student else "")
    print_figures(console, table)
    if ensemble.gain.mean > 0:
        share = student.gain.mean / ensemble.gain.mean
        console.print(f"{100 * share:.0f} % of the ensemble's gain is in the distilled network.", highlight=False)
    else:
        console.print("The ensemble gains nothing over its base on the test samples.", highlight=False)
