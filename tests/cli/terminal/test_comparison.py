import io

import numpy as np
import pytest
from rich.console import Console
from scipy.special import softmax

from coterie.cli.terminal.comparison import WIDE, print_comparison, print_seeds
from coterie.studies.comparison.tables import Comparison, Contender, ContenderCost, compare, compare_seeds


def comparison(seed: int = 0) -> Comparison:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(4, size=400)

    def contender(name: str, kind: str, strength: float, cost: ContenderCost) -> Contender:
        proba_NC = softmax(strength * np.eye(4)[label_N] + rng.normal(size=(400, 4)), axis=1)
        return Contender(name, "made up", kind, proba_NC.argmax(axis=1), proba_NC, cost)

    answers = (
        contender("base", "base", 1.0, ContenderCost()),
        contender("specialists", "specialists", 1.5, ContenderCost(1.5, 1.25, 2.0)),
        contender("copy", "control", 1.2, ContenderCost(1.5, 2.0, 2.0)),
    )
    return compare(answers, label_N, label_N, ["left out: nothing"])


def printed(show, value, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    show(console, value)
    return console.export_text(clear=False)


@pytest.mark.parametrize("width", [100, WIDE])
def test_each_classifier_has_a_row_and_wide_terminals_more_columns(width: int) -> None:
    found = comparison()
    text = printed(print_comparison, found, width)
    for row in found.rows:
        line = next(line for line in text.splitlines() if line.strip().startswith(row.name))
        assert f"{100 * row.scores.top1:.2f}" in line
        assert (f"{row.scores.brier:.3f}" in line) == (width == WIDE)
    assert "copy*" in text  # the best control
    assert "- left out: nothing" in text


def test_over_seeds_the_lead_is_there_where_the_terminal_is_wide() -> None:
    rows = compare_seeds([comparison(seed) for seed in range(3)])
    narrow, wide = (printed(print_seeds, rows, width) for width in (100, WIDE))
    assert ("lead" in narrow.splitlines()[1], "lead" in wide.splitlines()[1]) == (False, True)
    gain = next(row for row in rows if row.kind == "specialists").gain
    assert f"+{100 * gain.mean:.2f} (" in narrow
