"""The figures of several seeds."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from coterie.cli.terminal.tables import print_figures
from coterie.measures.report import Report
from coterie.measures.significance import Interval, over_seeds
from coterie.pages.format import decimal, gain, hundredths
from coterie.system.units import how_many


def print_seed_runs(console: Console, reports: Mapping[str, Report]) -> None:
    """A row per run, by its title, and the mean gain with Student's interval."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("", "base", "ensemble", "gain, points", "passes"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for title, report in reports.items():
        table.add_row(
            title,
            hundredths(report.base_top1),
            hundredths(report.ensemble_top1),
            gain(Interval(report.gain, report.gain_low, report.gain_high)),
            decimal(report.mean_passes),
        )
    print_figures(console, table)
    if reports:
        mean = over_seeds([report.gain for report in reports.values()])
        console.print(f"mean gain over {how_many(len(reports), 'seed')}: {gain(mean)} points", highlight=False)
