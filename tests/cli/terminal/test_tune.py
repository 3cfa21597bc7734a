from dataclasses import replace

import numpy as np
from rich.console import Console

from coterie.cli.terminal.tune import ROWS_SHOWN, print_tuning
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.fitting import Combination
from coterie.routing.gate import Budget, Gate
from coterie.routing.rule import Rule
from coterie.routing.trials import Candidate
from coterie.routing.tune import Tuning

ROWS = tuple(
    Candidate(Combination("blend", top + 1), "margin", accuracy=0.7 - top / 100, gain=-0.01, passes=1.4, routed=0.4)
    for top in range(20)
)
RULE = Rule(Gate(0.25, "margin"), Combiner.named("blend", (0.65, 0.0), 20), Temperatures(1.5, (2.0, 3.0)))
TUNING = Tuning(RULE, ROWS[-1], ROWS, 0.6, "A note.", Budget())
PARTITION = Partition.from_assignment([0, 0, 1, 1])


def test_the_chosen_row_is_marked_even_where_it_is_not_among_the_best(console: Console) -> None:
    print_tuning(console, TUNING, PARTITION)
    text = console.export_text(clear=False)
    rows = [line for line in text.splitlines() if "margin" in line and "blend" in line]
    assert len(rows) == ROWS_SHOWN + 1
    assert [row.lstrip().startswith("✓") for row in rows] == [False] * ROWS_SHOWN + [True]
    assert "20 tried" in text
    assert "A note." in text


def test_the_rule_is_told_with_weights_and_temperatures(console: Console) -> None:
    print_tuning(console, TUNING, PARTITION)
    text = " ".join(console.export_text(clear=False).split())
    assert "routed at 0.25 and above (margin); weights 0.00 to 0.65; temperatures 1.50 (base), 2.00 to 3.00" in text
    assert "no weight for the specialists of clusters 1: no better than the restricted base" in text


def test_a_tuning_read_from_a_run_marks_no_row(console: Console) -> None:
    never = replace(TUNING, rule=replace(RULE, gate=Gate(np.inf)), chosen=None)
    print_tuning(console, never, PARTITION)
    text = console.export_text(clear=False)
    assert text.count("✓") == 1  # in the legend
    assert "routed never (entropy)" in text
