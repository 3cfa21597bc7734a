import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, top_k_accuracy_score

from coterie.measures.metrics import calibration_error, in_top_k, risk_coverage_area, score


@given(st.integers(3, 9), st.integers(1, 3), st.integers(0, 1000))
def test_top_k_agrees_with_scikit_learn(n_classes: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score_NC, label_N = rng.normal(size=(40, n_classes)), rng.integers(n_classes, size=40)
    theirs = top_k_accuracy_score(label_N, score_NC, k=k, labels=np.arange(n_classes)) if k < n_classes else 1.0
    assert in_top_k(score_NC, label_N, k).mean() == pytest.approx(theirs)


def test_top_1_is_argmax_where_scores_are_equal() -> None:
    score_NC = np.zeros((3, 3))
    assert in_top_k(score_NC, np.array([0, 1, 2]), 1).tolist() == [True, False, False]


def probabilities(seed: int, n: int = 200, n_classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    proba_NC = softmax(3 * rng.normal(size=(n, n_classes)), axis=1).astype(np.float32)
    guess = rng.random(n) < 0.6
    return proba_NC, np.where(guess, proba_NC.argmax(axis=1), rng.integers(n_classes, size=n))


@given(st.integers(0, 10_000))
def test_scores_agree_with_scikit_learn_and_plain_formulas(seed: int) -> None:
    proba_NC, label_N = probabilities(seed)
    found = score(proba_NC, label_N)
    indicator_NC = np.eye(proba_NC.shape[1])[label_N]
    assert found.nll == pytest.approx(
        log_loss(label_N, proba_NC / proba_NC.sum(1, keepdims=True), labels=np.arange(7)), rel=1e-5
    )
    assert found.brier == pytest.approx(((proba_NC - indicator_NC) ** 2).sum(axis=1).mean(), rel=1e-5)
    assert found.top1 == (proba_NC.argmax(1) == label_N).mean()
    assert found.top3 >= found.top1


@given(st.integers(0, 10_000))
def test_the_calibration_error_is_that_of_scikit_learns_curve(seed: int) -> None:
    proba_NC, label_N = probabilities(seed)
    confidence_N, right_N = proba_NC.max(axis=1), proba_NC.argmax(axis=1) == label_N
    accuracy_B, mean_B = calibration_curve(right_N, confidence_N, n_bins=15, strategy="uniform")
    share_B = np.histogram(confidence_N, bins=np.linspace(0, 1, 16))[0] / len(label_N)
    expected = (share_B[share_B > 0] * np.abs(accuracy_B - mean_B)).sum()
    assert score(proba_NC, label_N).ece == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.4, 0.6, 0.9]), st.booleans()), min_size=1, max_size=7))
def test_the_risk_coverage_area_is_the_mean_over_all_orders_of_ties(samples: list[tuple[float, bool]]) -> None:
    confidence_N = np.array([confidence for confidence, _ in samples])
    right_N = np.array([right for _, right in samples])
    areas = []
    for order in itertools.permutations(range(len(samples))):
        if (np.diff(confidence_N[list(order)]) <= 0).all():
            wrong = ~right_N[list(order)]
            areas.append((np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean())
    assert risk_coverage_area(confidence_N, right_N) == pytest.approx(np.mean(areas))


def test_a_class_that_was_given_no_chance_costs_a_finite_loss() -> None:
    found = score(np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32), np.array([0, 1]))
    assert found.nll == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2)
    assert found.ece == pytest.approx(0.5)


def test_perfect_confidence_has_no_calibration_error() -> None:
    assert calibration_error(np.ones(5), np.ones(5, bool)) == 0
