"""The figures of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coterie.cli.terminal.tables import print_figures
from coterie.measures.balance import Balance
from coterie.measures.report import Report
from coterie.pages.format import count, decimal, hundredths, interval, percent, points, zero
from coterie.routing.rule import Rule


def print_report(
    console: Console, report: Report, labels: Sequence[str], n_unknown: int = 0, caution: str = ""
) -> None:
    """The headline, and the table of clusters; with the accuracies over ``n_unknown`` more samples that are errors, and
    why the figures may not hold.
    """
    console.print(headline(report), highlight=False)
    if caution:
        console.print(Text(caution, style="bold"), soft_wrap=True)
    if n_unknown:
        base, ensemble = map(percent, report.with_errors(n_unknown))
        console.print(
            f"with the {count(n_unknown)} samples of classes that train lacks as errors: base {base}, ensemble "
            f"{ensemble}",
            highlight=False,
        )
    if report.balance is not None:
        _print_balance(console, report.balance)
    if len(report.clusters) > 1:  # of one, the headline says all
        _print_clusters(console, report, labels)


def _print_clusters(console: Console, report: Report, labels: Sequence[str]) -> None:
    table = Table(
        title="Accuracy within each true cluster, in %", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("cluster", no_wrap=True, min_width=7)
    # Whatever the figures leave of the line is for names.
    table.add_column("classes", no_wrap=True, overflow="ellipsis", width=max(10, console.width - 70))
    for heading in ("samples", "base", "restr.", "spec.", "base@3", "restr.@3", "spec.@3"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for row in report.clusters:
        table.add_row(
            str(row.cluster),
            Text(f"{len(row.classes)}: " + ", ".join(labels[k] for k in row.classes)),
            count(row.n_samples),
            *(
                hundredths(value)
                for value in (
                    row.base_top1,
                    row.restricted_top1,
                    row.specialist_top1,
                    row.base_top3,
                    row.restricted_top3,
                    row.specialist_top3,
                )
            ),
        )
    print_figures(console, table)
    console.print(
        "base: over all classes; restr.: the base among the cluster's classes; spec.: the specialist, asked for all of "
        "them; @3: the true class is among the first three.",
        highlight=False,
    )


def _print_balance(console: Console, balance: Balance) -> None:
    console.print(
        f"balanced accuracy: base {percent(balance.base_balanced)}, ensemble {percent(balance.ensemble_balanced)}; "
        f"macro-F1: base {percent(balance.base_macro_f1)}, ensemble {percent(balance.ensemble_macro_f1)}",
        highlight=False,
    )
    for row in balance.groups:
        console.print(
            f"{row.name}: {row.n_classes} classes of {count(row.fewest)} to {count(row.most)} training samples: "
            f"base {percent(row.base_top1)}, ensemble {percent(row.ensemble_top1)}",
            highlight=False,
        )


def headline(report: Report) -> str:
    """Base, ensemble, gain and what it costs, in a few lines."""
    gained = (
        f"base {percent(report.base_top1)}, ensemble {percent(report.ensemble_top1)} on {count(report.n_samples)} "
        f"samples: {points(report.gain)} points (95 % interval {interval(report.gain_low, report.gain_high)}): "
        f"{zero(report.gain_low, report.gain_high)}\n"
        f"routed {percent(report.routed_fraction, 1)}, so {decimal(report.mean_passes)} forward passes on average; "
    )
    if len(report.clusters) == 1:
        alone = report.oracle_specialist
        more = (
            ": no worse than both, at one pass, so the base is worth more training"
            if report.gain_low > 0 and alone >= report.ensemble_top1
            else ""
        )
        return f"{gained}the specialist by itself, asked for all: {percent(alone)}{more}"
    return (
        f"{gained}the right cluster is chosen for {percent(report.router_accuracy, 1)}\n"
        f"in the true cluster: restricted base {percent(report.oracle_restricted)}, "
        f"specialists {percent(report.oracle_specialist)}"
    )


def rule_line(rule: Rule) -> str:
    """How answers are combined, and which samples are routed."""
    combiner, gate = rule.combiner, rule.gate
    top = f", top {combiner.top}" if combiner.top > 1 else ""
    routed = (
        f"routed at {gate.threshold:.4g} and above ({gate.score})" if np.isfinite(gate.threshold) else "never routed"
    )
    return f"{combiner.name}{top}, {routed}"
