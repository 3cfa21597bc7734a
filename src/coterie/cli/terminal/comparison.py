"""The table that weighs specialists against controls."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coterie.cli.terminal.tables import print_figures
from coterie.measures.metrics import Scores
from coterie.pages.format import chance, decimal, gain, hundredths
from coterie.studies.comparison.tables import Comparison, ContenderCost, SeedsRow

# Narrower terminals get the columns that decide; the page and --json have all.
WIDE = 140
LEGEND = (
    "gain: points over the base, with its 95 % interval; p: chance of so large a difference from the base, and from "
    "the best control (*), were there none (McNemar); nll in nats; aurc: area under risk-coverage, lower is better; "
    "training, passes, size: multiples of the base's."
)
SEEDS_LEGEND = (
    "Means over seeds with Student's 95 % intervals; gain: points over the base; lead: points over the best control, "
    "chosen on validation, seed by seed; training, passes, size: multiples of the base's."
)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """One row per classifier, then what it comes to."""
    wide = console.width >= WIDE
    table = _table(("gain",), ("p base", "p control"), wide)
    for row in comparison.rows:
        star = "*" if row.name == comparison.best_control[row.flips] else ""
        table.add_row(
            _name(row.name, row.flips, row.kind == "specialists", star),
            hundredths(row.scores.top1),
            "" if row.p_base is None else gain(row.gain),
            *_costs(row.cost),
            *((chance(row.p_base), chance(row.p_control), *_more(row.scores, row.cost)) if wide else ()),
        )
    print_figures(console, table)
    console.print(LEGEND, highlight=False)
    for sentence in (*comparison.verdict, *comparison.notes):
        console.print(f"- {sentence}", highlight=False)


def print_seeds(console: Console, rows: tuple[SeedsRow, ...]) -> None:
    """One row per classifier, over seeds."""
    wide = console.width >= WIDE
    table = _table(("gain",), ("lead",), wide)
    for row in rows:
        table.add_row(
            _name(row.name, row.flips, row.kind == "specialists", ""),
            hundredths(row.top1.mean),
            gain(row.gain),
            *_costs(row.cost),
            *(("" if row.lead is None else gain(row.lead), *_more(row.scores, row.cost)) if wide else ()),
        )
    print_figures(console, table)
    console.print(SEEDS_LEGEND, highlight=False)


def _table(headings: tuple[str, ...], wide_headings: tuple[str, ...], wide: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    more = (*wide_headings, "top-3", "nll", "ece", "brier", "aurc", "size") if wide else ()
    for heading in ("top-1", *headings, "training", "passes", *more):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    return table


def _name(name: str, flips: bool, ours: bool, star: str) -> Text:
    return Text(name + (" + flips" if flips else "") + star, style="bold" if ours else "")


def _costs(cost: ContenderCost) -> tuple[str, ...]:
    return decimal(cost.training), decimal(cost.inference)


def _more(scores: Scores, cost: ContenderCost) -> tuple[str, ...]:
    return (
        hundredths(scores.top3),
        decimal(scores.nll, 3),
        decimal(scores.ece, 3),
        decimal(scores.brier, 3),
        decimal(scores.aurc, 3),
        decimal(cost.storage),
    )
