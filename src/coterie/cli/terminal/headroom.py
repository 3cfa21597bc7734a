"""The headroom of a base."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coterie.cli.terminal.tables import print_figures
from coterie.measures.significance import Interval
from coterie.pages.format import count, gain, hundredths, percent, points
from coterie.studies.headroom.advice import Setting
from coterie.studies.headroom.costs import SettingCost
from coterie.studies.headroom.study import HeadroomStudy


def print_headroom(console: Console, study: HeadroomStudy) -> None:
    """The table of settings, the advice with its reasons, and the command that follows from it."""
    headroom, advice = study.headroom, study.headroom.advice
    console.print(f"{study.source.about}. Base accuracy {percent(headroom.base_accuracy)}.", highlight=False)
    _print_settings(console, study)
    verdict = (
        f"Train them: {advice.setting.method}, {advice.setting.n_clusters} clusters." if advice.train else "Don't."
    )
    console.print(Text(f"\n{verdict}", style="bold"))
    for reason in advice.reasons:
        console.print(reason, highlight=False, markup=False)
    if study.caution is not None:
        console.print(Text(study.caution, style="bold"))
    if study.test is not None:
        forecast = gain(Interval(study.test.gain, study.test.gain_low, study.test.gain_high))
        console.print(
            f"On the test samples, which took no part in this, that setting's forecast is {forecast}, its router "
            f"{percent(study.test.router_accuracy, 1)}.",
            highlight=False,
        )
    if study.next_command is not None:
        console.print(f"next: {study.next_command}", highlight=False, markup=False, soft_wrap=True)


def _print_settings(console: Console, study: HeadroomStudy) -> None:
    """The table, narrow enough for 80 columns, and what its headings mean."""
    headroom = study.headroom
    asked = f"{100 * headroom.asked:+.2g}"
    disk = "nets" if study.costs[0].bytes is None else "MB"
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        title="Headroom, in %",
        title_justify="left",
    )
    table.add_column("method", no_wrap=True, min_width=8)
    for heading in ("S", "sizes", "restr", "hard", "comp", "gain", "95 %", "sent", asked, "time", disk):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for setting, cost in zip(headroom.settings, study.costs, strict=True):
        table.add_row(*_cells(setting, cost), style="bold" if setting == headroom.advice.setting else "")
    print_figures(console, table)
    console.print(
        "sizes: classes in a cluster; restr: the base among the true "
        "cluster's classes; hard, comp: what specialists that are never wrong would reach by either rule; gain: "
        f"forecast, in points, with its interval; sent: routed for it; {asked}: routed for so many points; time and "
        f"{disk}: of the specialists.",
        highlight=False,
    )


def _cells(setting: Setting, cost: SettingCost) -> tuple[str, ...]:
    return (
        setting.method,
        str(setting.n_clusters),
        f"{setting.smallest}-{setting.largest}",
        hundredths(setting.restricted_accuracy, 1),
        hundredths(setting.ceiling_hard, 1),
        hundredths(setting.ceiling_compose, 1),
        points(setting.gain),
        f"{points(setting.gain_low, 1)} {points(setting.gain_high, 1)}",
        hundredths(setting.routed, 0),
        "-" if setting.routed_for_gain is None else hundredths(setting.routed_for_gain, 0),
        cost.time,
        str(setting.n_specialists) if cost.bytes is None else count(cost.bytes / 1e6),
    )
