import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from coterie.evaluation import Outputs, evaluate
from coterie.gate import Gate
from coterie.metrics import Report, gain_interval, in_top_k
from coterie.partition import Partition


@given(st.integers(3, 9), st.integers(1, 3), st.integers(0, 1000))
def test_top_k_agrees_with_scikit_learn(n_classes: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score_NC, label_N = rng.normal(size=(40, n_classes)), rng.integers(n_classes, size=40)
    theirs = top_k_accuracy_score(label_N, score_NC, k=k, labels=np.arange(n_classes)) if k < n_classes else 1.0
    assert in_top_k(score_NC, label_N, k).mean() == pytest.approx(theirs)


def test_top_1_is_argmax_where_scores_are_equal() -> None:
    score_NC = np.zeros((3, 3))
    assert in_top_k(score_NC, np.array([0, 1, 2]), 1).tolist() == [True, False, False]


def test_the_interval_of_a_gain_covers_the_truth_at_its_rate() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        before = rng.random(1500) < 0.7
        after = np.where(rng.random(1500) < 0.15, rng.random(1500) < 0.75, before)
        low, high = gain_interval(before, after)
        covered += low <= 0.15 * (0.75 - 0.7) <= high
    assert 0.93 <= covered / 2000 <= 0.97


def test_a_report_survives_json() -> None:
    rng = np.random.default_rng(0)
    outputs = Outputs(rng.normal(size=(30, 4)), rng.normal(size=(30, 4)), rng.integers(4, size=30))
    report = evaluate(outputs, Partition.from_assignment([0, 1, 0, 1]), Gate(0.9), "hard")
    assert Report.from_values(json.loads(json.dumps(report.to_values(), allow_nan=False))) == report
