from dataclasses import replace

import numpy as np
import pytest

from coterie.partition import Partition
from coterie.partition.choose import choose_n_clusters
from coterie.partition.quality import Quality
from coterie.partition.vectors import unit_rows
from coterie.studies.partition.page import MOST_LISTED, MOST_ROWS, PartitionContent, render


def content(n_classes: int, n_clusters: int) -> PartitionContent:
    unit_CD = unit_rows(np.random.default_rng(0).normal(size=(n_classes, 6)))
    partition = Partition.from_assignment(np.arange(n_classes) % n_clusters)
    return PartitionContent(
        "Made <up>.",
        "hand",
        partition,
        tuple(f"<{k}>" for k in range(n_classes)),
        unit_CD,
        Quality.of(partition, silhouette=0.5),
        None,
        unit_CD[:, :2],
        "principal components",
        ("a note",),
    )


def test_few_classes_have_all_drawings_and_are_all_named() -> None:
    page = render(content(12, 3))
    assert page.count("<svg") == 4  # map, matrix, dendrogram, sizes
    assert "12 classes in 3 clusters" in page
    assert "Made &lt;up&gt;." in page
    assert all(f"&lt;{k}&gt;" in page for k in range(12))
    assert "a note" in page
    assert "0.500" in page


def test_many_classes_and_clusters_are_cut_short() -> None:
    page = render(content(MOST_LISTED + 12, 1))
    assert "and 12 more" in page
    many = render(content(MOST_ROWS + 5, MOST_ROWS + 5))
    assert f"The first {MOST_ROWS} of {MOST_ROWS + 5} clusters" in many


@pytest.mark.parametrize("forecast", [None, lambda partition: 0.01 * partition.n_clusters])
def test_a_choice_is_drawn_with_a_curve_for_each_figure(forecast) -> None:
    made = content(12, 3)

    def make(n_clusters: int) -> Partition:
        return Partition.from_assignment(np.arange(12) % n_clusters)

    page = render(replace(made, choice=choose_n_clusters(made.unit_CD, make, forecast)))
    assert "How the number of clusters was chosen" in page
    assert page.count("<h3>") == (2 if forecast is None else 3)
