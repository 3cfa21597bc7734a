"""A partition with its figures -> one HTML page that needs nothing else. Computes nothing but the layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from coterie.arrays import FloatArray
from coterie.pages.figures import cluster_sizes, shorten
from coterie.pages.format import count
from coterie.pages.page import render_page
from coterie.partition import Partition
from coterie.partition.choose import Choice
from coterie.partition.quality import Quality
from coterie.studies.partition import figures as draw
from coterie.studies.partition.tables import quality_rows

MOST_ROWS = 300
MOST_LISTED = 60


@dataclass(frozen=True, eq=False)
class PartitionContent:
    """All that the page shows.

    ``about``: a sentence on where the vectors come from; ``method``: in words; ``map_kind``: how the map was made;
    ``notes``: what the method said on its way.
    """

    about: str
    method: str
    partition: Partition
    names: tuple[str, ...]
    unit_CD: FloatArray
    quality: Quality
    choice: Choice | None
    place_C2: FloatArray
    map_kind: str
    notes: tuple[str, ...]


def render(content: PartitionContent) -> str:
    """The page, as HTML text."""
    partition = content.partition
    member_SC = partition.membership_SC.astype(np.float32)
    mean_SD = (member_SC @ content.unit_CD) / partition.size_S[:, None].astype(np.float32)
    order_S = draw.cluster_order(mean_SD)
    return render_page(
        "partition.html.j2",
        content=content,
        quality=content.quality,
        partition=partition,
        figures=quality_rows(content.quality),
        map=draw.map_figure(content.place_C2, partition, content.names),
        by_density=partition.n_classes > draw.MOST_POINTS,
        matrix=draw.ordered_matrix(content.unit_CD, partition, order_S, content.names),
        by_groups=partition.n_classes > draw.MOST_MATRIX_ROWS,
        tree=draw.dendrogram(content.unit_CD, partition, mean_SD, content.names),
        tree_of_classes=partition.n_classes <= draw.MOST_LEAVES,
        sizes=cluster_sizes(partition.size_S),
        curves=_curves(content.choice),
        rows=_cluster_rows(content),
    )


def _curves(choice: Choice | None) -> list[tuple[str, Markup]]:
    if choice is None or len(choice.n_clusters) < 2:
        return []
    series = [("Silhouette", choice.silhouette), ("Eigengap", choice.eigengap)]
    if choice.gain_forecast is not None:
        series.insert(0, ("Gain forecast", choice.gain_forecast))
    return [(title, draw.choice_curve(choice.n_clusters, values, choice.chosen, title)) for title, values in series]


def _cluster_rows(content: PartitionContent) -> list[dict[str, Any]]:
    partition = content.partition
    rows = []
    for cluster in range(min(partition.n_clusters, MOST_ROWS)):
        classes = partition.classes(cluster)
        listed = ", ".join(shorten(content.names[k], 40) for k in classes[:MOST_LISTED].tolist())
        more = len(classes) - MOST_LISTED
        rows.append(
            {
                "cluster": cluster,
                "colour": draw.colour(cluster),
                "size": len(classes),
                "names": listed + (f" and {count(more)} more" if more > 0 else ""),
            }
        )
    return rows
