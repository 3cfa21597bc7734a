import json

import numpy as np
import pytest
from scipy.special import softmax

from coterie.errors import InputError
from coterie.logits_file import LabelledLogits
from coterie.measures.significance import mcnemar
from coterie.studies.comparison.page import render
from coterie.studies.comparison.tables import (
    Comparison,
    Contender,
    ContenderCost,
    compare,
    compare_logits,
    compare_seeds,
)

N, C = 4000, 6


def labels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(C, size=N)


def proba(label_N: np.ndarray, accuracy: float, seed: int) -> np.ndarray:
    """Probabilities whose best class is right for about ``accuracy`` of the samples."""
    rng = np.random.default_rng(seed)
    right = rng.random(N) < accuracy
    top = np.where(right, label_N, (label_N + 1) % C)
    return softmax(3 * np.eye(C)[top] + 0.1 * rng.normal(size=(N, C)), axis=1).astype(np.float32)


def answer(
    name: str, kind: str, accuracy: float, seed: int, cost: ContenderCost | None = None, flips: bool = False
) -> Contender:
    validation, test = (proba(labels(k), accuracy, seed + k) for k in (0, 1))
    return Contender(name, f"{name}, made up", kind, validation.argmax(axis=1), test, cost or ContenderCost(), flips)


def table(*answers: Contender) -> Comparison:
    return compare([answer("base", "base", 0.70, 10), *answers], labels(0), labels(1), ["left out: nothing"])


def test_a_control_that_wins_is_said_to_win() -> None:
    found = table(
        answer("specialists", "specialists", 0.72, 20, ContenderCost(1.5, 1.4, 2.0)),
        answer("copy", "control", 0.78, 30, ContenderCost(1.5, 2.0, 2.0)),
    )
    assert found.best_control == ("copy", None)
    assert found.verdict[0].startswith("At the same training budget, copy is ahead of specialists by")
    assert "chance" not in found.verdict[0]


def test_a_lead_that_may_be_chance_is_said_to_be() -> None:
    found = table(
        answer("specialists", "specialists", 0.72, 20, ContenderCost(1.5)),
        answer("copy", "control", 0.72, 30, ContenderCost(1.5)),
    )
    assert "chance alone can explain" in found.verdict[0]


def test_the_best_control_is_chosen_on_validation_and_within_the_budget() -> None:
    dear = answer("longer", "control", 0.95, 40, ContenderCost(3.0))
    flipped = Contender(
        "lucky", "", "control", proba(labels(0), 0.5, 50).argmax(1), proba(labels(1), 0.99, 51), ContenderCost(1.5)
    )
    plain = answer("copy", "control", 0.73, 30, ContenderCost(1.5))
    found = table(answer("specialists", "specialists", 0.72, 20, ContenderCost(1.5)), dear, flipped, plain)
    assert found.best_control[0] == "copy"


def test_what_is_free_and_better_is_named_and_so_is_what_is_dearer() -> None:
    found = table(
        answer("specialists", "specialists", 0.72, 20, ContenderCost(1.5, 1.4)),
        answer("base", "control", 0.80, 11, ContenderCost(1.0, 2.0), flips=True),
        answer("pair", "dearer", 0.85, 12, ContenderCost(2.0, 2.0)),
    )
    assert any(s.startswith("base with flips needs no training at all and is ahead") for s in found.verdict)
    assert any(s.startswith("pair costs 2.00 times") for s in found.verdict)


def test_gains_and_chances_are_those_of_the_right_answers() -> None:
    found = table(answer("specialists", "specialists", 0.75, 20), answer("copy", "control", 0.73, 30))
    right = [proba(labels(1), a, s + 1).argmax(1) == labels(1) for a, s in ((0.70, 10), (0.75, 20), (0.73, 30))]
    ours = found.row("specialists")
    assert ours.gain.mean == pytest.approx(right[1].mean() - right[0].mean())
    assert ours.p_base == mcnemar(right[0], right[1])
    assert ours.p_control == mcnemar(right[2], right[1])
    assert found.rows[0].p_base is None


def test_a_comparison_survives_json_and_is_drawn() -> None:
    found = table(
        answer("specialists", "specialists", 0.72, 20), answer("copy <&>", "control", 0.73, 30, ContenderCost(1.5, 2.0))
    )
    assert Comparison.from_values(json.loads(json.dumps(found.to_values()))) == found
    page = render(found, "Made up.")
    assert "copy &lt;&amp;&gt;" in page
    assert page.count("<tr") == 1 + len(found.rows)
    assert "left out: nothing" in page


def test_over_seeds_means_and_leads() -> None:
    tables = []
    for seed in (0, 1, 2):
        ours = answer("specialists", "specialists", 0.74, 100 * seed + 20, ContenderCost(1.5))
        tables.append(table(ours, answer("copy", "control", 0.72, 100 * seed + 30, ContenderCost(1.5))))
    rows = {row.name: row for row in compare_seeds(tables)}
    leads = [t.row("specialists").scores.top1 - t.row("copy").scores.top1 for t in tables]
    assert rows["specialists"].lead.mean == pytest.approx(np.mean(leads))
    assert rows["specialists"].top1.low < rows["specialists"].top1.mean < rows["specialists"].top1.high
    assert rows["copy"].n_seeds == 3


def test_a_row_that_a_seed_lacks_is_left_out_of_the_mean() -> None:
    both = [table(answer("copy", "control", 0.7, 30)), table()]
    assert [row.name for row in compare_seeds(both)] == ["base"]


def test_answers_of_another_length_are_refused() -> None:
    short = Contender("short", "", "control", labels(0)[:-1], proba(labels(1), 0.5, 1), ContenderCost())
    with pytest.raises(InputError, match="3999 validation"):
        table(short)


def test_brought_logits_are_judged_as_given_and_calibrated() -> None:
    def stored(seed: int) -> LabelledLogits:
        base_NC = 4 * np.log(proba(labels(seed), 0.7, 60 + seed))
        return LabelledLogits(base_NC, labels(seed), {"mine": np.log(proba(labels(seed), 0.8, 70 + seed))})

    found = compare_logits(stored(0), stored(1))
    assert [row.name for row in found.rows] == ["base", "base, calibrated", "mine", "mine, calibrated"]
    assert found.row("base, calibrated").scores.nll < found.row("base").scores.nll
    assert found.row("base, calibrated").scores.top1 == found.row("base").scores.top1
    with pytest.raises(InputError, match="no mine"):
        compare_logits(stored(0), LabelledLogits(stored(1).logits_NC, labels(1)))
