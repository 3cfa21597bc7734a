import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coterie.errors import InputError
from coterie.gate import Gate, cross_fitted_accuracy, entropy, sweep_thresholds


@st.composite
def scored_answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 60))
    # Few distinct scores, so that equal ones are common.
    score = draw(arrays(np.float64, n, elements=st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.3, 2.0])))
    return score, draw(arrays(np.bool_, n)), draw(arrays(np.bool_, n))


@given(st.integers(1, 6), st.integers(2, 9), st.integers(0, 1000))
def test_entropy_agrees_with_scipy(n: int, n_classes: int, seed: int) -> None:
    proba_NC = np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.2), size=n)
    np.testing.assert_allclose(entropy(proba_NC), scipy.stats.entropy(proba_NC, axis=1), atol=1e-12)


def test_entropy_of_certainty_is_zero_and_of_ignorance_log_c() -> None:
    np.testing.assert_allclose(entropy(np.array([[1.0, 0.0], [0.5, 0.5]])), [0.0, np.log(2)])


@given(scored_answers())
def test_the_sweep_agrees_with_trying_every_threshold(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    score, base, routed = case
    curve = sweep_thresholds(score, base, routed)
    assert len(curve.threshold_T) == len(np.unique(score)) + 1
    for threshold, share, accuracy in zip(curve.threshold_T, curve.routed_T, curve.accuracy_T, strict=True):
        asked = [s >= threshold for s in score]
        right = [r if a else b for a, b, r in zip(asked, base, routed, strict=True)]
        assert share == pytest.approx(np.mean(asked))
        assert accuracy == pytest.approx(np.mean(right))
    assert curve.routed_T[0] == 0
    assert curve.routed_T[-1] == 1


@given(scored_answers())
def test_the_best_threshold_is_never_worse_than_the_base_and_routes_least(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    score, base, routed = case
    curve = sweep_thresholds(score, base, routed)
    assert curve.accuracy_T[curve.best] >= base.mean() - 1e-12
    equal = np.flatnonzero(np.isclose(curve.accuracy_T, curve.accuracy_T.max()))
    assert curve.best == equal[0]


def test_cross_fitting_does_not_credit_a_lucky_threshold() -> None:
    rng = np.random.default_rng(0)
    score, base, routed = rng.random(400), rng.random(400) < 0.7, rng.random(400) < 0.7
    curve = sweep_thresholds(score, base, routed)
    assert cross_fitted_accuracy(score, base, routed) < curve.accuracy_T[curve.best]


def test_cross_fitting_credits_a_real_gain() -> None:
    score = np.linspace(0, 1, 200)
    base, routed = score < 0.5, np.ones(200, dtype=bool)
    assert cross_fitted_accuracy(score, base, routed) > 0.97


@given(scored_answers())
def test_cross_fitting_works_at_any_length(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    assert 0 <= cross_fitted_accuracy(*case) <= 1


def test_a_gate_at_infinity_routes_nothing_and_at_zero_all() -> None:
    proba_NC = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert Gate(np.inf).routed(proba_NC).tolist() == [False, False]
    assert Gate(0.0).routed(proba_NC).tolist() == [True, True]
    assert Gate(0.5).routed(proba_NC).tolist() == [False, True]


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="nan"):
        Gate(np.nan)
    with pytest.raises(InputError, match=r"scores \(2\)"):
        sweep_thresholds(np.zeros(2), np.zeros(3, dtype=bool), np.zeros(2, dtype=bool))
    with pytest.raises(InputError, match="NaN"):
        sweep_thresholds(np.array([np.nan]), np.zeros(1, dtype=bool), np.zeros(1, dtype=bool))
