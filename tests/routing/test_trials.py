import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from coterie.partition import Partition
from coterie.routing.evaluation import Outputs, Routing
from coterie.routing.fitting import PAPER, Combination, fit_rules
from coterie.routing.gate import Budget, make_folds
from coterie.routing.trials import JudgedCandidate, Trial, try_all

PARTITION = Partition.from_assignment([0, 0, 1, 1])
BLEND = Combination("blend")


def make_outputs(n: int = 300, pass_cost: float = 1.0) -> Outputs:
    rng = np.random.default_rng(0)
    label_N = rng.integers(4, size=n)
    base_NC = 1.5 * np.eye(4)[label_N] + rng.normal(size=(n, 4))
    return Outputs(base_NC, 3 * np.eye(4)[label_N] + rng.normal(size=(n, 4)), label_N, pass_cost)


@pytest.fixture(scope="module")
def outputs() -> Outputs:
    return make_outputs()


@pytest.fixture(scope="module")
def fold_N() -> np.ndarray:
    return make_folds(300, 0)


@pytest.fixture(scope="module")
def trials(outputs: Outputs, fold_N: np.ndarray) -> dict[Combination, Trial]:
    return try_all([PAPER, BLEND], outputs, PARTITION, fold_N)


@pytest.mark.parametrize("combination", [PAPER, BLEND])
def test_each_fold_is_answered_by_a_rule_of_the_others(combination, outputs, fold_N, trials) -> None:
    trial = trials[combination]
    for fold in range(5):
        held = fold_N == fold
        rule = fit_rules([combination], outputs.take(~held), PARTITION)[combination]
        routing = Routing.of(outputs.take(held), PARTITION, rule)
        base_N, routed_N = routing.right(outputs.label_N[held])
        np.testing.assert_array_equal(trial.base_correct_N[held], base_N)
        np.testing.assert_array_equal(trial.routed_correct_N[held], routed_N)
        np.testing.assert_array_equal(trial.extra_N[held], routing.extra_N)


def test_the_log_loss_is_scikit_learns(outputs, trials) -> None:
    expected = log_loss(outputs.label_N, softmax(outputs.base_NC, axis=1))
    assert trials[PAPER].base_loss_N.mean() == pytest.approx(expected, rel=1e-6)


def test_a_pass_from_the_trunk_costs_less(trials, fold_N) -> None:
    cheap = try_all([PAPER], make_outputs(pass_cost=0.5), PARTITION, fold_N)[PAPER]
    np.testing.assert_array_equal(cheap.extra_N, 0.5 * trials[PAPER].extra_N)


def test_a_learned_score_does_not_see_its_own_fold(trials, fold_N) -> None:
    trial = trials[BLEND]
    learned_N = trial.scores("learned", fold_N)
    changed = Trial(**{**vars(trial), "routed_correct_N": np.where(fold_N == 2, False, trial.routed_correct_N)})
    others = changed.scores("learned", fold_N)
    np.testing.assert_array_equal(learned_N[fold_N == 2], others[fold_N == 2])
    assert not np.array_equal(learned_N[fold_N != 2], others[fold_N != 2])


def test_a_limit_of_one_pass_is_the_base(trials, fold_N) -> None:
    trial = trials[BLEND]
    judged = JudgedCandidate.of(BLEND, "entropy", trial, trial.base_loss_N, Budget(passes=1), fold_N)
    assert judged is not None
    assert (judged.row.passes, judged.row.routed, judged.row.gain) == (1, 0, 0)
    assert judged.threshold == np.inf
    np.testing.assert_array_equal(judged.correct_N, trial.base_correct_N)
    assert not judged.added_loss_N.any()


def test_a_given_threshold_is_taken_and_one_that_bounds_no_risk_is_none(trials, fold_N) -> None:
    trial = trials[BLEND]
    judged = JudgedCandidate.of(BLEND, "margin", trial, trial.base_loss_N, Budget(threshold=0.5), fold_N)
    assert judged is not None
    assert judged.threshold == 0.5
    assert judged.row.routed == (trial.scores("margin", fold_N) >= 0.5).mean()
    assert JudgedCandidate.of(BLEND, "margin", trial, trial.base_loss_N, Budget(risk=0.001), fold_N) is None
