import itertools
import re

import numpy as np
import pytest

from coterie.partition import Partition
from coterie.partition.vectors import unit_rows
from coterie.studies.partition import figures
from coterie.studies.partition.figures import (
    choice_curve,
    cluster_order,
    colour,
    dendrogram,
    map_figure,
    ordered_matrix,
)
from planted import planted_vectors


def test_many_classes_are_drawn_by_density() -> None:
    vectors_CD, truth = planted_vectors(3000, 120, 0.5)
    unit_CD, grouping = unit_rows(vectors_CD), Partition.from_assignment(truth)
    names = [str(k) for k in range(3000)]
    mean_SD = grouping.membership_SC.astype(np.float32) @ unit_CD
    drawn = map_figure(unit_CD[:, :2], grouping, names)
    assert drawn.count("<circle") == 0
    assert "data:image/png" in drawn
    assert re.search(r"<title>cluster \d+, \d+ classes: \d+, ", drawn)  # on hovering over a number
    places = [(float(a), float(b)) for a, b in re.findall(r'<text x="([\d.]+)" y="([\d.]+)"', drawn)]
    assert 10 < len(places) < 120
    assert all(abs(a - c) > 25.8 or abs(b - d) > 14.8 for (a, b), (c, d) in itertools.combinations(places, 2))
    assert len(ordered_matrix(unit_CD, grouping, np.arange(120), names).svg) < 400_000
    assert dendrogram(unit_CD, grouping, mean_SD, names) == ""


def test_the_matrix_of_means_is_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors_CD, truth = planted_vectors(60, 3, 0.5)
    unit_CD, grouping = unit_rows(vectors_CD), Partition.from_assignment(truth)
    seen = {}
    monkeypatch.setattr(figures, "MOST_MATRIX_ROWS", 10)
    monkeypatch.setattr(figures, "MATRIX_BINS", 6)
    monkeypatch.setattr(figures, "similarity_matrix", lambda cosines, *_: seen.update(c=cosines))
    ordered_matrix(unit_CD, grouping, np.arange(3), [""] * 60)
    ordered = unit_CD[grouping.packed_class_M]
    slow = (ordered @ ordered.T).reshape(6, 10, 6, 10).mean(axis=(1, 3))
    np.testing.assert_allclose(seen["c"], slow, atol=1e-5)


def test_the_curve_marks_the_chosen_number() -> None:
    drawn = choice_curve((2, 4, 8), (0.1, 0.3, 0.2), 4, "Silhouette")
    assert drawn.count("<circle") == 3
    assert re.search(r'class="dot chosen"[^>]*><title>S = 4: 0\.3000', drawn)


def test_similar_clusters_stand_side_by_side() -> None:
    mean_SD = np.array([[1.0, 0.0], [0.0, 1.0], [0.99, 0.01], [0.01, 0.99]])
    order = cluster_order(mean_SD).tolist()
    assert abs(order.index(0) - order.index(2)) == abs(order.index(1) - order.index(3)) == 1


def test_neighbouring_clusters_have_other_colours() -> None:
    assert len({colour(cluster) for cluster in range(100)}) == 100
