"""A comparison -> one HTML page. Computes nothing but the layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from coterie.pages.figures import Mark, cost_scatter
from coterie.pages.format import percent
from coterie.pages.page import render_page
from coterie.studies.comparison.tables import Comparison, Row, SeedsRow

KINDS = {
    "base": "the base",
    "specialists": "the run",
    "tuned": "the run, another rule",
    "partition": "other clusters",
    "control": "control",
    "dearer": "dearer",
    "other": "other",
}
SHAPES = {
    "base": "dot second",
    "specialists": "dot first",
    "tuned": "ring first",
    "partition": "diamond",
    "dearer": "down first",
}
# A snapshot ensemble's passes would push all others to the edge.
MOST_PASSES_DRAWN = 6.0


def render(comparison: Comparison, about: str) -> str:
    """The page, as HTML text.

    Args:
        comparison: the table.
        about: a sentence on run and data.
    """
    return render_page(
        "comparison.html.j2",
        comparison=comparison,
        about=about,
        rows=list(enumerate(comparison.rows, start=1)),
        kinds=KINDS,
        **cost_figures(comparison.rows),
    )


def cost_figures(rows: Sequence[Row | SeedsRow]) -> dict[str, Any]:
    """What a page needs to show accuracies against both costs; numbers count the rows."""
    # Rows in the same place, as a calibrated base and the base are, would lie on each other: the first is drawn.
    by_place = {
        (row.scores.top1, row.cost.training, row.cost.inference): (number, row)
        for number, row in reversed(list(enumerate(rows, start=1)))
        if row.cost.inference <= MOST_PASSES_DRAWN
    }
    drawn = sorted(by_place.values(), key=lambda pair: pair[0])

    def scatter(cost: str, title: str) -> Markup:
        marks = [
            Mark(
                getattr(row.cost, cost),
                row.scores.top1,
                SHAPES.get(row.kind, "ring"),
                str(number),
                f"{row.name}{' with flips' if row.flips else ''}: {percent(row.scores.top1)}",
            )
            for number, row in drawn
        ]
        return cost_scatter(marks, title)

    return {
        "by_training": scatter("training", "training, in multiples of the base's"),
        "by_inference": scatter("inference", "forward passes per image"),
        "most_passes": MOST_PASSES_DRAWN,
    }
