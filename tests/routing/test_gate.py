import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coterie.errors import InputError
from coterie.partition import Partition
from coterie.routing.combine import BaseAnswer
from coterie.routing.gate import (
    N_FEATURES,
    SCORES,
    Budget,
    GainModel,
    Gate,
    cross_fitted_routing,
    entropy,
    features,
    first_two,
    make_folds,
    risk_bound,
    sweep_thresholds,
)

PARTITION = Partition.from_assignment([0, 0, 1, 1, 1, 2])


def make_answer(n: int = 50, seed: int = 0, scale: float = 2.0) -> BaseAnswer:
    return BaseAnswer(scale * np.random.default_rng(seed).normal(size=(n, 6)), PARTITION)


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


def cross_fitted_accuracy(score: np.ndarray, base: np.ndarray, routed: np.ndarray, budget: Budget = Budget()) -> float:  # noqa: B008 - frozen
    asked = cross_fitted_routing(score, base, routed, np.ones(len(score)), budget, make_folds(len(score)))
    return float(np.where(asked, routed, base).mean())


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
    _, base_N, routed_N = case
    # Whatever the thresholds: right where both are, wrong where neither is.
    assert (base_N & routed_N).mean() - 1e-9 <= cross_fitted_accuracy(*case) <= (base_N | routed_N).mean() + 1e-9


def test_folds_are_even_and_known_by_their_seed() -> None:
    fold_N = make_folds(23, seed=4)
    assert sorted(np.bincount(fold_N)) == [4, 4, 5, 5, 5]
    np.testing.assert_array_equal(fold_N, make_folds(23, seed=4))
    assert sorted(make_folds(3)) == [0, 1, 2]


@given(scored_answers(), st.floats(1, 3))
def test_a_budget_of_passes_is_kept_and_no_allowed_threshold_is_better(case, passes) -> None:
    score, base, routed = case
    extra = np.arange(len(score)) % 3
    curve = sweep_thresholds(score, base, routed, extra)
    index = curve.choose(Budget(passes=passes))
    assert curve.passes_T[index] <= passes + 1e-9
    for threshold, accuracy in zip(curve.threshold_T, curve.accuracy_T, strict=True):
        if 1 + extra[score >= threshold].sum() / len(score) <= passes:
            assert accuracy <= curve.accuracy_T[index] + 1e-12


@given(scored_answers(), st.floats(0, 1))
def test_a_routed_share_is_kept(case, share) -> None:
    curve = sweep_thresholds(*case)
    assert curve.routed_T[curve.choose(Budget(routed=share))] <= share + 1e-9


def test_a_budget_of_nothing_routes_nothing_and_samples_that_are_all_alike_are_routed_together() -> None:
    score, right = np.full(10, 0.7), np.ones(10, dtype=bool)
    curve = sweep_thresholds(score, ~right, right)
    assert curve.choose(Budget()) == 1
    for budget in (Budget(passes=1), Budget(routed=0), Budget(routed=0.9), Budget(passes=1.9)):
        assert curve.choose(budget) == 0  # one more would be all of them


def test_the_risk_bound_is_clopper_and_pearsons() -> None:
    theirs = [
        scipy.stats.binomtest(wrong, 80, alternative="less").proportion_ci(0.95, method="exact").high
        for wrong in (0, 7, 80)
    ]
    np.testing.assert_allclose(risk_bound(np.array([0, 7 / 80, 1]), 80), theirs)


def test_a_bounded_risk_is_met_at_the_least_cost() -> None:
    score = np.linspace(1, 0, 1000)  # the most uncertain first
    base = np.arange(1000) >= 300
    curve = sweep_thresholds(score, base, np.ones(1000, dtype=bool))
    index = curve.choose(Budget(risk=0.1))
    bound_T = risk_bound(1 - curve.accuracy_T, 1000)
    assert bound_T[index] <= 0.1 < bound_T[index - 1]
    assert curve.choose(Budget(risk=0.9)) == 0
    with pytest.raises(InputError, match=r"risk = 0.001: no threshold bounds the error rate by it.*100.0%"):
        curve.choose(Budget(risk=0.001))
    with pytest.raises(InputError, match="no threshold bounds"):
        curve.choose(Budget(risk=0.1, passes=1.05))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"passes": 0.5}, "at least 1"),
        ({"passes": np.nan}, "at least 1"),
        ({"routed": 1.5}, "routed = 1.5: a share"),
        ({"risk": -0.1}, "risk = -0.1: a share"),
        ({"threshold": 1.0, "passes": 2.0}, "leaves nothing to choose"),
    ],
)
def test_budgets_that_cannot_be_are_refused(limits, message) -> None:
    with pytest.raises(InputError, match=message):
        Budget(**limits)


def test_a_given_threshold_is_taken() -> None:
    curve = sweep_thresholds(np.array([0.1, 0.5, 0.9]), np.zeros(3, dtype=bool), np.ones(3, dtype=bool))
    assert [curve.routed_T[curve.choose(Budget(threshold=t))] for t in (2.0, 0.9, 0.3, 0.0)] == [
        0,
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
        1,
    ]


def test_a_gate_at_infinity_routes_nothing_and_at_zero_all() -> None:
    answer = BaseAnswer(np.array([[50.0, 0.0], [0.0, 0.0]]), Partition.from_assignment([0, 1]))
    assert Gate(np.inf).routed(answer).tolist() == [False, False]
    assert Gate(0.0).routed(answer).tolist() == [True, True]
    assert Gate(0.5).routed(answer).tolist() == [False, True]


@given(st.integers(0, 1000))
def test_scores_agree_with_their_definitions(seed: int) -> None:
    answer = make_answer(6, seed)
    for row, p in enumerate(answer.proba_NC):
        first, second = sorted(p, reverse=True)[:2]
        masses = [p[PARTITION.classes(s)].sum() for s in range(3)]
        inside = sorted(p[PARTITION.classes(int(np.argmax(masses)))], reverse=True)
        expected = {
            "entropy": scipy.stats.entropy(p),
            "confidence": 1 - first,
            "margin": 1 - (first - second),
            "energy": -np.log(np.exp(answer.logits_NC[row]).sum()),
            "clusters": scipy.stats.entropy(masses),
            "contested": max(masses) - (inside[0] - (inside[1] if len(inside) > 1 else 0)),
        }
        assert set(SCORES) == set(expected)
        for name, value in expected.items():
            assert SCORES[name](answer)[row] == pytest.approx(value, abs=1e-9), name


def test_the_first_two_of_a_single_column_are_it_and_nothing() -> None:
    first, second = first_two(np.array([[0.3], [0.9]]))
    assert first.tolist() == [0.3, 0.9]
    assert second.tolist() == [0, 0]


def test_a_learned_gate_finds_where_there_is_a_gain() -> None:
    answer = make_answer(4000)
    seen = features(answer)
    assert seen.shape == (4000, N_FEATURES)
    rng = np.random.default_rng(0)
    base = rng.random(4000) < 0.6
    routed = np.where(SCORES["contested"](answer) > 0.5, rng.random(4000) < 0.9, base)
    model = GainModel.fit(seen, base, routed)
    gate = Gate(0.05, "learned", model)
    np.testing.assert_allclose(gate.scores(answer), model.gain(seen))
    gain = routed.astype(float) - base
    assert gain[gate.routed(answer)].mean() > gain.mean() + 0.08
    assert model.gain(seen).mean() == pytest.approx(gain.mean())


def test_a_learned_gate_is_finite_where_all_samples_are_certain_or_all_alike() -> None:
    certain = BaseAnswer(np.tile(1000.0 * np.eye(6)[0], (20, 1)).astype(np.float32), PARTITION)
    alike = BaseAnswer(np.zeros((20, 6), dtype=np.float32), PARTITION)
    for answer in (certain, alike):
        seen = features(answer)
        assert np.isfinite(seen).all()
        model = GainModel.fit(seen, np.zeros(20, dtype=bool), np.ones(20, dtype=bool))
        np.testing.assert_allclose(model.gain(seen), 1)


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="nan"):
        Gate(np.nan)
    with pytest.raises(InputError, match="one of entropy, confidence"):
        Gate(0.0, "luck")
    with pytest.raises(InputError, match="needs a model"):
        Gate(0.0, "learned")
    with pytest.raises(InputError, match=f"{N_FEATURES} finite coefficients"):
        GainModel(0.0, (1.0,))
    with pytest.raises(InputError, match=r"scores \(2\)"):
        sweep_thresholds(np.zeros(2), np.zeros(3, dtype=bool), np.zeros(2, dtype=bool))
    with pytest.raises(InputError, match="NaN"):
        sweep_thresholds(np.array([np.nan]), np.zeros(1, dtype=bool), np.zeros(1, dtype=bool))
