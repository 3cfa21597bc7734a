"""A reproduction -> one HTML page: the paper's tables, ours beside its figures. Computes nothing but the layout."""

from __future__ import annotations

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
        result=result,
        about=about,
        rows=list(enumerate(result.table, start=1)),
        kinds=KINDS,
        **(cost_figures(result.table) if result.table else {}),
    )
