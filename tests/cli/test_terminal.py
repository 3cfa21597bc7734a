import dataclasses
import io
import re

import numpy as np
import pytest
from rich.console import Console

from coterie.cli.terminal.progress import BarProgress, LineProgress, make_progress, show_duration
from coterie.cli.terminal.report import headline, print_report, rule_line
from coterie.measures.report import Report
from coterie.partition import Partition
from coterie.routing.combine import Combiner
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.gate import Gate
from coterie.routing.rule import Rule


@pytest.fixture
def report() -> Report:
    rng = np.random.default_rng(0)
    label_N = rng.integers(6, size=300)
    logits = rng.normal(size=(300, 6)) + np.eye(6)[label_N]
    return evaluate(Outputs(logits, logits, label_N), Partition.from_assignment([0, 0, 1, 1, 2, 2]), Rule(Gate(1.0)))


def console(**options) -> Console:
    return Console(file=io.StringIO(), width=100, **options)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (2700, "45 min"), (12_000, "3 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


def test_a_gain_that_may_be_none_says_so(report: Report) -> None:
    sure = dataclasses.replace(report, gain=0.02, gain_low=0.01, gain_high=0.03)
    unsure = dataclasses.replace(report, gain=0.02, gain_low=-0.01, gain_high=0.05)
    assert "+2.00 points (95 % interval +1.00 to +3.00)" in headline(sure)
    assert "not told apart from none" not in headline(sure)
    assert "not told apart from none" in headline(unsure)


def test_the_table_has_a_line_per_cluster_and_names_in_any_script(report: Report) -> None:
    out = console()
    print_report(out, report, ["é", "ж", "[red]", "λ", "x" * 200, "漢"])
    text = out.file.getvalue()
    assert sum(line.strip().startswith(("0 ", "1 ", "2 ")) for line in text.splitlines()) == 3
    assert "é, ж" in text
    narrow = Console(file=io.StringIO(), width=80)
    print_report(narrow, report, ["é", "ж", "[red]", "λ", "x" * 200, "漢"])
    assert re.search(r"0 +2: é, ж", narrow.file.getvalue())
    assert max(map(len, narrow.file.getvalue().splitlines())) <= 80
    assert "[red]" in text


def test_a_rule_in_a_line() -> None:
    paper = Rule(Gate(0.123456))
    assert rule_line(paper) == "hard, routed at 0.1235 and above (entropy)"
    never = Rule(Gate(np.inf, "margin"), Combiner.named("blend", (0.5,), top=2))
    assert rule_line(never) == "blend, top 2, never routed"


def test_progress_is_lines_in_a_pipe_and_bars_on_a_terminal() -> None:
    assert isinstance(make_progress(console()), LineProgress)
    assert isinstance(make_progress(console(force_terminal=True)), BarProgress)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_loss_accuracy_and_rate(terminal: bool) -> None:
    out = console(force_terminal=terminal)
    with make_progress(out) as progress:
        progress.stage("base", 20)
        progress.advance(10, 1280, 2.5, 0.125)
        progress.advance(10, 1280, 1.5, 0.5)
        progress.note("done")
    text = out.file.getvalue()
    assert "base" in text
    assert "20/20" in text
    assert "loss 1.500" in text
    assert "accuracy 50.0%" in text
    assert "samples/s" in text
    assert "done" in text
