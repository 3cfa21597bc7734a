"""The figures of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coterie.measures.balance import Balance
from coterie.measures.report import Report
from coterie.routing.rule import Rule


def print_report(console: Console, report: Report, labels: Sequence[str]) -> None:
    """The headline, and the table of clusters."""
    console.print(headline(report), highlight=False)
    if report.balance is not None:
        _print_balance(console, report.balance)
    table = Table(
        title="Accuracy within each true cluster, in %", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("cluster", no_wrap=True, min_width=7)
    # Whatever the figures leave of the line is for names.
    table.add_column("classes", no_wrap=True, overflow="ellipsis", width=max(10, console.width - 69))
    for heading in ("samples", "base", "restr.", "spec.", "base@3", "restr.@3", "spec.@3"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for row in report.clusters:
        table.add_row(
            str(row.cluster),
            Text(f"{len(row.classes)}: " + ", ".join(labels[k] for k in row.classes)),
            f"{row.n_samples:,}",
            *(
                f"{100 * value:.2f}"
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
    console.print(table)
    console.print(
        "base: over all classes; restr.: the base among the cluster's classes; spec.: the specialist, asked for all of "
        "them; @3: the true class is among the first three.",
        highlight=False,
    )


def _print_balance(console: Console, balance: Balance) -> None:
    console.print(
        f"balanced accuracy: base {balance.base_balanced:.2%}, ensemble {balance.ensemble_balanced:.2%}; "
        f"macro-F1: base {balance.base_macro_f1:.2%}, ensemble {balance.ensemble_macro_f1:.2%}",
        highlight=False,
    )
    for row in balance.groups:
        console.print(
            f"{row.name}: {row.n_classes} classes of {row.fewest:,} to {row.most:,} training samples: "
            f"base {row.base_top1:.2%}, ensemble {row.ensemble_top1:.2%}",
            highlight=False,
        )


def headline(report: Report) -> str:
    """Base, ensemble, gain and what it costs, in a few lines."""
    gain = (
        f"{100 * report.gain:+.2f} points (95 % interval {100 * report.gain_low:+.2f} to {100 * report.gain_high:+.2f})"
    )
    verdict = "" if report.gain_low > 0 or report.gain_high < 0 else ": not told apart from none"
    return (
        f"base {report.base_top1:.2%}, ensemble {report.ensemble_top1:.2%} on {report.n_samples:,} samples: "
        f"{gain}{verdict}\n"
        f"routed {report.routed_fraction:.1%}, so {report.mean_passes:.2f} forward passes on average; "
        f"the right cluster is chosen for {report.router_accuracy:.1%}\n"
        f"in the true cluster: restricted base {report.oracle_restricted:.2%}, "
        f"specialists {report.oracle_specialist:.2%}"
    )


def rule_line(rule: Rule) -> str:
    """How answers are combined, and which samples are routed."""
    combiner, gate = rule.combiner, rule.gate
    top = f", top {combiner.top}" if combiner.top > 1 else ""
    routed = (
        f"routed at {gate.threshold:.4g} and above ({gate.score})" if np.isfinite(gate.threshold) else "never routed"
    )
    return f"{combiner.name}{top}, {routed}"
