import dataclasses
import io
import re

import numpy as np
import pytest
from rich.console import Console

from coterie.cli.terminal.report import headline, print_report, rule_line
from coterie.measures.report import Report
from coterie.pages.format import percent
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


def test_a_gain_that_may_be_none_says_so(report: Report) -> None:
    sure = dataclasses.replace(report, gain=0.02, gain_low=0.01, gain_high=0.03)
    unsure = dataclasses.replace(report, gain=0.02, gain_low=-0.01, gain_high=0.05)
    assert "+2.00 points (95 % interval +1.00 to +3.00)" in headline(sure)
    assert "the interval excludes zero" in headline(sure)
    assert "the interval includes zero" in headline(unsure)


def test_samples_of_unknown_classes_count_as_errors(report: Report, console: Console) -> None:
    half = dataclasses.replace(report, base_top1=0.5, ensemble_top1=0.6)
    print_report(console, half, list("abcdef"), n_unknown=100)
    said = " ".join(console.export_text(clear=False).split())
    assert "with the 100 samples of classes that train lacks as errors: base 37.50 %, ensemble 45.00 %" in said


def test_the_table_has_a_line_per_cluster_and_names_in_any_script(report: Report, console: Console) -> None:
    print_report(console, report, ["é", "ж", "[red]", "λ", "x" * 200, "漢"])
    text = console.export_text(clear=False)
    assert sum(line.strip().startswith(("0 ", "1 ", "2 ")) for line in text.splitlines()) == 3
    assert "é, ж" in text
    narrow = Console(file=io.StringIO(), width=80, record=True)
    print_report(narrow, report, ["é", "ж", "[red]", "λ", "x" * 200, "漢"])
    assert re.search(r"0 +2: é, ж", narrow.export_text(clear=False))
    assert max(map(len, narrow.export_text(clear=False).splitlines())) <= 80
    assert "[red]" in text


def test_one_cluster_is_no_matter_of_routing(report: Report, console: Console) -> None:
    print_report(console, dataclasses.replace(report, clusters=report.clusters[:1]), list("abcdef"))
    said = " ".join(console.export_text(clear=False).split())
    alone = f"the specialist by itself, asked for all: {percent(report.oracle_specialist)}".replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert alone in said
    assert "cluster" not in said.replace("the specialist by itself", "")


@pytest.mark.parametrize(("alone", "low", "said"), [(0.71, 0.01, True), (0.69, 0.01, False), (0.71, -0.01, False)])
def test_a_copy_that_is_better_by_itself_tells_of_a_base_that_was_not_trained_enough(
    report: Report, alone: float, low: float, said: bool
) -> None:
    one = dataclasses.replace(
        report, clusters=report.clusters[:1], ensemble_top1=0.70, oracle_specialist=alone, gain_low=low
    )
    assert ("the base is worth more training" in headline(one)) == said


def test_a_rule_in_a_line() -> None:
    paper = Rule(Gate(0.123456))
    assert rule_line(paper) == "hard, routed at 0.1235 and above (entropy)"
    never = Rule(Gate(np.inf, "margin"), Combiner.named("blend", (0.5,), top=2))
    assert rule_line(never) == "blend, top 2, never routed"


def test_classes_counted_alike_have_a_line_of_their_own(report: Report, console: Console) -> None:
    print_report(console, report, list("abcdef"))
    assert report.balance is not None
    line = next(line for line in console.export_text(clear=False).splitlines() if line.startswith("balanced accuracy"))
    assert f"base {100 * report.balance.base_balanced:.2f}" in line
    assert f"ensemble {100 * report.balance.ensemble_macro_f1:.2f}" in line
