import re

import numpy as np
import pytest
from scipy.special import softmax

from coterie.studies.comparison.page import MOST_PASSES_DRAWN, cost_figures, render
from coterie.studies.comparison.tables import Comparison, Contender, ContenderCost, compare


@pytest.fixture
def comparison() -> Comparison:
    rng = np.random.default_rng(0)
    label_N = rng.integers(4, size=400)

    def contender(name: str, kind: str, strength: float, cost: ContenderCost) -> Contender:
        proba_NC = softmax(strength * np.eye(4)[label_N] + rng.normal(size=(400, 4)), axis=1)
        return Contender(name, f"{name}, made up", kind, proba_NC.argmax(axis=1), proba_NC, cost)

    answers = [
        contender("base", "base", 1.0, ContenderCost()),
        contender("specialists", "specialists", 1.5, ContenderCost(1.5, 1.25, 2.0)),
        contender("copy <&>", "control", 1.2, ContenderCost(1.5, 2.0, 2.0)),
        contender("snapshots", "control", 1.2, ContenderCost(1.5, MOST_PASSES_DRAWN + 1, 2.0)),
    ]
    return compare(answers, label_N, label_N, ["left out: nothing"])


def test_each_row_is_numbered_escaped_and_has_its_interval(comparison: Comparison) -> None:
    page = render(comparison, "Made up.")
    assert page.count("<tr") == 1 + len(comparison.rows)
    assert "copy &lt;&amp;&gt;" in page
    assert "left out: nothing" in page
    gain = comparison.rows[1].gain
    assert f"+{100 * gain.low:.2f} to +{100 * gain.high:.2f}" in page
    assert "of 400 test images" in page


def test_what_costs_too_many_passes_is_not_drawn(comparison: Comparison) -> None:
    drawn = cost_figures(comparison.rows)
    for figure in (drawn["by_training"], drawn["by_inference"]):
        assert set(re.findall(r"class=\"halo\">(\d)", figure)) == {"1", "2", "3"}


def test_of_rows_in_the_same_place_the_first_is_drawn(comparison: Comparison) -> None:
    drawn = [cost_figures(rows)["by_training"] for rows in (comparison.rows, (comparison.rows[0], *comparison.rows))]
    assert [figure.count("<title>base: ") for figure in drawn] == [2, 2]  # of the mark and of its number
    assert 'class="halo">1<' in drawn[1]
    assert 'class="halo">2<' not in drawn[1]
