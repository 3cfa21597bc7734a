"""A partition with its figures -> one HTML page that needs nothing else. Computes nothing but the layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from coterie.arrays import FloatArray
from coterie.pages.figures import cluster_sizes, shorten
from coterie.pages.page import render_page
from coterie.partition import Partition
from coterie.partition.choose import Choice
from coterie.partition.quality import Quality
from coterie.studies.partition import figures as draw

MOST_ROWS = 300
MOST_LISTED = 60


@dataclass(frozen=True, eq=False)
class PageContent:
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


def render(content: PageContent) -> str:
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
        map=draw.label_map(content.place_C2, partition, content.names),
        by_density=partition.n_classes > draw.MOST_POINTS,
        matrix=draw.ordered_matrix(content.unit_CD, partition, order_S, content.names),
        by_groups=partition.n_classes > draw.MOST_MATRIX_ROWS,
        tree=draw.dendrogram(content.unit_CD, partition, mean_SD, content.names),
        tree_of_classes=partition.n_classes <= draw.MOST_LEAVES,
        sizes=cluster_sizes(partition.size_S),
        curves=_curves(content.choice),
        rows=_cluster_rows(content),
    )


def quality_rows(quality: Quality) -> list[tuple[str, str, str]]:
    """Title, value and meaning of each figure that is there."""
    kept = quality.confusion_kept_at_random
    rows: Sequence[tuple[str, float | None, str, str]] = (
        (
            "confusion kept inside",
            quality.confusion_kept,
            "{:.1%}",
            "of the validation errors, true and said class share a cluster"
            + (f" (random clusters of these sizes: {kept:.1%})" if kept is not None else ""),
        ),
        ("router accuracy", quality.router_accuracy, "{:.1%}", "the likeliest cluster holds the true class"),
        ("gain forecast", quality.gain_forecast, "{:+.2%}", "points over the base, by the paper's rule"),
        ("silhouette", quality.silhouette, "{:.3f}", "in cosine, from -1 to 1; higher is tighter"),
        ("adjusted Rand index", quality.rand_index, "{:.3f}", "agreement with the given groups; 1 is the same"),
        ("mutual information", quality.mutual_information, "{:.3f}", "the same, normalised"),
        ("stability over seeds", quality.seed_stability, "{:.3f}", "mean Rand index to other seeds' partitions"),
        ("stability, bootstrap", quality.bootstrap_stability, "{:.3f}", "the same, dimensions drawn anew"),
    )
    return [(title, form.format(value), meaning) for title, value, form, meaning in rows if value is not None]


def _curves(choice: Choice | None) -> list[tuple[str, Markup]]:
    if choice is None or len(choice.n_clusters) < 2:
        return []
    series = [("Silhouette", choice.silhouette), ("Eigengap", choice.eigengap)]
    if choice.gain_forecast is not None:
        series.insert(0, ("Gain forecast", choice.gain_forecast))
    return [(title, draw.choice_curve(choice.n_clusters, values, choice.chosen, title)) for title, values in series]


def _cluster_rows(content: PageContent) -> list[dict[str, Any]]:
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
                "names": listed + (f" and {more:,} more" if more > 0 else ""),
            }
        )
    return rows
