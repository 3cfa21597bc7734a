"""The headroom of a base."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coterie.studies.headroom.study import HeadroomStudy


def print_headroom(console: Console, study: HeadroomStudy) -> None:
    """The table of settings, the advice with its reasons, and the command that follows from it."""
    headroom, advice = study.headroom, study.headroom.advice
    asked = f"{100 * headroom.asked:+.2g}"
    console.print(f"{study.source.about}. Base accuracy {headroom.base_accuracy:.2%}.", highlight=False)
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        title="Headroom, in %",
        title_justify="left",
    )
    table.add_column("method", no_wrap=True, min_width=8)
    disk = "nets" if study.costs[0].bytes is None else "MB"
    for heading in ("S", "sizes", "restr", "hard", "comp", "gain", "95 %", "sent", asked, "time", disk):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for setting, cost in zip(headroom.settings, study.costs, strict=True):
        table.add_row(
            setting.method,
            str(setting.n_clusters),
            f"{setting.smallest}-{setting.largest}",
            *(
                f"{100 * share:.1f}"
                for share in (
                    setting.restricted_accuracy,
                    setting.ceiling_hard,
                    setting.ceiling_compose,
                )
            ),
            f"{100 * setting.gain:+.2f}",
            f"{100 * setting.gain_low:+.1f} {100 * setting.gain_high:+.1f}",
            f"{100 * setting.routed:.0f}",
            "-" if setting.routed_for_gain is None else f"{100 * setting.routed_for_gain:.0f}",
            cost.time,
            str(setting.n_specialists) if cost.bytes is None else f"{cost.bytes / 1e6:,.0f}",
            style="bold" if setting == advice.setting else "",
        )
    console.print(table)
    console.print(
        "sizes: classes in a cluster; restr: the base among the true "
        "cluster's classes; hard, comp: what specialists that are never wrong would reach by either rule; gain: "
        f"forecast, in points, with its interval; sent: routed for it; {asked}: routed for so many points; time and "
        f"{disk}: of the specialists.",
        highlight=False,
    )
    setting = advice.setting
    verdict = f"Train them: {setting.method}, {setting.n_clusters} clusters." if advice.train else "Don't."
    console.print(Text(f"\n{verdict}", style="bold"))
    for reason in advice.reasons:
        console.print(reason, highlight=False, markup=False)
    if study.caution is not None:
        console.print(Text(study.caution, style="bold"))
    if study.test is not None:
        console.print(
            f"On the test samples, which took no part in this, that setting's forecast is {100 * study.test.gain:+.2f} "
            f"({100 * study.test.gain_low:+.2f} to {100 * study.test.gain_high:+.2f}), its router "
            f"{study.test.router_accuracy:.1%}.",
            highlight=False,
        )
    if study.next_command is not None:
        console.print(f"next: {study.next_command}", highlight=False, markup=False, soft_wrap=True)
