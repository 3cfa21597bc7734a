import re

import numpy as np
import pytest

from coterie.measures.report import ClusterRow
from coterie.pages import figures


def test_the_matrix_is_ordered_by_cluster_and_coloured_about_zero():
    similarity = np.array([[1.0, 0.0, 0.4], [0.0, 1.0, -0.4], [0.4, -0.4, 1.0]])
    figure = figures.similarity_matrix(similarity, np.array([0, 2, 1]), np.array([2, 1]), ("a", "c", "b"))
    assert figure.bound == pytest.approx(0.4)
    names = re.findall(r">(\w)<title>", figure.svg)
    assert names == ["a", "c", "b"]


def test_ticks_enclose_the_values():
    for low, high in [(0.0, 1.0), (0.7, 0.7), (-3.2, 17.0), (0.70123, 0.70124), (0.0, 0.0)]:
        ticks = figures.nice_ticks(low, high)
        assert ticks[0] <= low + 1e-9
        assert ticks[-1] >= high - 1e-9
        assert 2 <= len(ticks) <= 8


def test_sizes_have_a_bar_each_as_high_as_its_number() -> None:
    drawn = figures.cluster_sizes(np.array([1, 2, 4]))
    heights = [float(height) for height in re.findall(r'<rect class="mark"[^>]* height="([\d.]+)"', drawn)]
    assert heights == pytest.approx([heights[0], 2 * heights[0], 4 * heights[0]], rel=0.01)


def test_a_text_is_cut_with_an_ellipsis() -> None:
    assert [figures.shorten(text, 5) for text in ("abc", "abcde", "abcdef", "abc  def")] == [
        "abc",
        "abcde",
        "abcd…",
        "abc…",
    ]


def test_marks_stand_at_their_cost_and_accuracy() -> None:
    marks = [figures.Mark(1.0, 0.7, "dot second", "1", "base"), figures.Mark(2.0, 0.8, "diamond", "2", "other")]
    drawn = figures.cost_scatter(marks, "passes")
    (x1, y1), (x2, y2) = [
        (float(x), float(y)) for x, y in re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="halo"', drawn)
    ]
    assert x1 < x2
    assert y1 > y2  # more accurate is higher


def test_a_specialist_that_does_harm_is_a_triangle() -> None:
    def row(specialist: float) -> ClusterRow:
        return ClusterRow(0, (0, 1), 50, 0.7, 0.8, specialist, 0.9, 0.9, 0.9)

    better, worse = (figures.cluster_accuracies([row(specialist)]) for specialist in (0.85, 0.75))
    assert ("dot first" in better, "down bad" in better) == (True, False)
    assert ("dot first" in worse, "down bad" in worse) == (False, True)


def test_an_image_of_any_size_becomes_a_small_data_address() -> None:
    for shape in ((8, 8, 1), (600, 300, 3)):
        assert figures.image_address(np.zeros(shape, dtype=np.uint8)).startswith("data:image/png;base64,")
