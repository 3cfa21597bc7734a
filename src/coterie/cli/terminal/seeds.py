"""The figures of several seeds."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from coterie.cli.terminal.comparison import show_interval
from coterie.measures.report import Report
from coterie.measures.significance import over_seeds


def print_seed_runs(console: Console, reports: Mapping[str, Report]) -> None:
    """A row per run, by its title, and the mean gain with Student's interval."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("", "base", "ensemble", "gain, points", "passes"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for title, report in reports.items():
        table.add_row(
            title,
            f"{100 * report.base_top1:.2f}",
            f"{100 * report.ensemble_top1:.2f}",
            f"{100 * report.gain:+.2f} ({100 * report.gain_low:+.2f}, {100 * report.gain_high:+.2f})",
            f"{report.mean_passes:.2f}",
        )
    console.print(table)
    if reports:
        gain = over_seeds([report.gain for report in reports.values()])
        console.print(f"mean gain over {len(reports)} seed(s): {show_interval(gain)} points", highlight=False)
