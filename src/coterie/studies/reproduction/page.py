"""A reproduction -> one HTML page: the paper's tables, ours beside its figures. Computes nothing but the layout."""

from __future__ import annotations

from coterie.measures.significance import Interval
from coterie.pages.format import percent, points
from coterie.pages.page import render_page
from coterie.studies.comparison.page import KINDS, cost_figures
from coterie.studies.reproduction.tables import Reproduction


def render(result: Reproduction, about: str) -> str:
    """The page, as HTML text.

    Args:
        result: the study's.
        about: a sentence on the data.
    """
    return render_page(
        "reproduction.html.j2",
        {"points": points, "percent": percent, "gain": show_gain, "share": show_share},
        result=result,
        about=about,
        rows=list(enumerate(result.table, start=1)),
        kinds=KINDS,
        **(cost_figures(result.table) if result.table else {}),
    )


def show_gain(interval: Interval) -> str:
    """Points with the interval's ends, where it has any."""
    ends = f" ({points(interval.low)} to {points(interval.high)})" if interval.high < 1 else ""
    return points(interval.mean) + ends


def show_share(interval: Interval) -> str:
    """Per cent, with half the interval's width where it has one."""
    half = f" ±{100 * (interval.high - interval.mean):.2f}" if interval.high < float("inf") else ""
    return f"{100 * interval.mean:.2f}{half}"
