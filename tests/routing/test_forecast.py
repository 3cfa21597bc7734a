"""The forecast, against a loop over samples, and against ensembles whose specialists have a known skill."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from coterie.errors import InputError
from coterie.partition import Partition
from coterie.routing.forecast import CHANGED, BasePredictions, Outlook, Skill, best_gain, forecast, routable
from coterie.routing.gate import entropy

SURE = Skill(0.1, 0.0)


def contenders_of(seed: int, n_samples: int = 60, n_classes: int = 6) -> BasePredictions:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(n_classes, size=n_samples)
    logits_NC = rng.normal(size=(n_samples, n_classes)).astype(np.float32)
    logits_NC[np.arange(n_samples), label_N] += 1
    return BasePredictions(logits_NC, label_N)


def planted(n_samples: int = 4000, seed: int = 0) -> tuple[BasePredictions, Partition]:
    """Twelve classes in four groups of three; classes of a group are confused often, others seldom."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(12, size=n_samples)
    group_NC = (np.arange(12) // 3)[None, :] == (label_N // 3)[:, None]
    logits_NC = 1.5 * rng.normal(size=(n_samples, 12)) + 3 * group_NC
    logits_NC[np.arange(n_samples), label_N] += 1.5
    return BasePredictions(logits_NC, label_N), Partition.from_assignment(np.arange(12) // 3)


def slow_outlook(answers: BasePredictions, partition: Partition) -> list[tuple[bool, bool, bool, bool, float]]:
    rows = []
    for logits, label in zip(answers.logits_NC, answers.label_N, strict=True):
        proba = softmax(logits)
        asked = int(np.argmax([proba[partition.classes(k)].sum() for k in range(partition.n_clusters)]))
        classes, own = partition.classes(asked), partition.classes(int(partition.cluster_of_class_C[label]))
        held = bool(label in classes)
        outside = proba.copy()
        outside[classes] = 0
        even = proba[classes].sum() / len(classes)
        reachable = held or bool(outside.argmax() == label and outside.max() > even)
        restricted = bool(classes[logits[classes].argmax()] == label)
        share = 1 - len(classes) / len(proba) if len(classes) > 1 else 0.0
        rows.append((held, restricted, bool(own[logits[own].argmax()] == label), reachable, share))
    return rows


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_the_outlook_is_that_of_a_loop_over_samples(seed: int) -> None:
    answers = contenders_of(seed)
    partition = Partition.from_assignment(np.random.default_rng(seed).integers(3, size=6))
    outlook = Outlook.of(answers, partition)
    slow = slow_outlook(answers, partition)
    fields = (outlook.held_N, outlook.restricted_N, outlook.oracle_N, outlook.reachable_N, outlook.share_N)
    for field, expected in zip(fields, zip(*slow, strict=True), strict=True):
        np.testing.assert_allclose(field, np.array(expected), rtol=1e-6)


def test_the_order_is_that_of_the_gate() -> None:
    answers = contenders_of(3)
    np.testing.assert_array_equal(answers.order_N, np.argsort(-entropy(softmax(answers.logits_NC, axis=1))))


def test_the_best_gain_is_that_of_the_best_threshold() -> None:
    answers = contenders_of(4)
    change_N = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=answers.n_samples)
    order = np.argsort(-entropy(softmax(answers.logits_NC, axis=1)))
    slow = max(change_N[order[:k]].sum() for k in range(answers.n_samples + 1))
    assert best_gain(answers, change_N) == pytest.approx(slow / answers.n_samples)
    assert best_gain(answers, np.full(answers.n_samples, -1.0)) == 0


@pytest.mark.parametrize("rule", ["hard", "compose", "blend"])
def test_the_mean_curve_is_a_loop_over_thresholds(rule: str) -> None:
    answers, partition = planted(300)
    outlook = Outlook.of(answers, partition)
    found = forecast(answers, outlook, rule, SURE)
    right_N, total = answers.right_N, 0.0
    for place, row in enumerate(answers.order_N):
        if rule == "hard":
            wins = 0.1 * outlook.share_N[row] if outlook.held_N[row] and not outlook.restricted_N[row] else 0.0
            total += float(outlook.restricted_N[row]) + wins - float(right_N[row])
        elif outlook.held_N[row] and not right_N[row]:
            total += 0.1 * float(outlook.share_N[row])
        assert found.mean_curve_N[place] == pytest.approx(total / 300, abs=1e-5)


def test_the_interval_holds_the_gain_of_ensembles_with_that_skill() -> None:
    """Specialists that put each open error right with the chance that the skill says, judged on other samples."""
    answers, partition = planted()
    found = forecast(answers, Outlook.of(answers, partition), "hard", Skill(0.3, 0.0))
    fresh, _ = planted(40_000, seed=1)
    outlook = Outlook.of(fresh, partition)
    won_N = np.random.default_rng(2).random(fresh.n_samples) < 0.3 * outlook.share_N
    after_N = outlook.restricted_N | (outlook.held_N & won_N)
    real = best_gain(fresh, after_N.astype(np.float32) - fresh.right_N)
    assert found.low < real < found.high
    assert found.gain == pytest.approx(real, abs=0.01)
    assert found.gain > 0.02


def test_a_wider_spread_of_skill_widens_the_interval() -> None:
    answers, partition = planted()
    outlook = Outlook.of(answers, partition)
    narrow, wide = (forecast(answers, outlook, "hard", Skill(0.3, spread)) for spread in (0.0, 0.2))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


@pytest.mark.parametrize("rule", ["hard", "blend"])
def test_partitions_side_by_side_win_what_the_first_leaves(rule: str) -> None:
    answers, partition = planted()
    outlook, other = (Outlook.of(answers, one) for one in (partition, Partition.from_assignment(np.arange(12) // 6)))
    skill = Skill(0.3, 0.0)
    found = forecast(answers, outlook, rule, skill, [other])
    certain_N, open_N = outlook.change(answers, rule)
    chance_N = 1 - (1 - 0.3 * open_N) * (1 - 0.3 * other.change(answers, rule)[1])
    expected_N = np.cumsum((certain_N + chance_N)[answers.order_N]) / answers.n_samples
    np.testing.assert_allclose(found.mean_curve_N, expected_N, atol=1e-6)
    alone = [forecast(answers, one, rule, skill).gain for one in (outlook, other)]
    assert max(alone) < found.gain
    if rule == "blend":
        assert found.gain < sum(alone)


@pytest.mark.parametrize("rule", ["hard", "blend"])
def test_no_more_samples_are_routed_than_may_be(rule: str) -> None:
    answers, partition = planted()
    outlook, other = (Outlook.of(answers, one) for one in (partition, Partition.from_assignment(np.arange(12) // 6)))
    free, tight = (forecast(answers, outlook, rule, Skill(0.3, 0.0), [other], share) for share in (1.0, 0.25))
    n_most = answers.n_samples // 4
    np.testing.assert_array_equal(tight.mean_curve_N[:n_most], free.mean_curve_N[:n_most])
    np.testing.assert_array_equal(tight.mean_curve_N[n_most:], tight.mean_curve_N[n_most - 1])
    assert tight.gain < free.gain
    assert tight.gain == pytest.approx(free.mean_curve_N[:n_most].max(), abs=0.005)
    assert tight.routed <= 0.25
    assert forecast(answers, outlook, rule, Skill(0.3, 0.0), [other], 0.0).gain == 0


@pytest.mark.parametrize("n_samples", [200, 1000, 8000])
def test_what_validation_does_not_show_is_not_gained(n_samples: int) -> None:
    """Against ensembles that put some open errors right and spoil others, and that route where their own validation
    samples show a gain of 1.28 standard errors.
    """
    answers, partition = planted(n_samples)
    outlook = Outlook.of(answers, partition)
    found = forecast(answers, outlook, "blend", SURE)
    open_N = outlook.change(answers, "blend")[1]
    rng = np.random.default_rng(1)
    sign_DN = np.where(rng.random((2000, n_samples)) < (CHANGED + SURE.mean) / (2 * CHANGED), 1, -1)
    change_DN = sign_DN * (rng.random(sign_DN.shape) < CHANGED * open_N)
    shown_D, error_D = change_DN.sum(axis=1), np.sqrt((change_DN**2).sum(axis=1))
    routed = float((shown_D > 1.28 * error_D).mean())
    assert found.gain == pytest.approx(SURE.mean * open_N.mean() * routed, rel=0.2)
    assert (routed > 0.99) == (n_samples == 8000)
    assert found.least_shown == pytest.approx(1.28 * error_D.mean() / n_samples, rel=0.1)


def test_thresholds_are_not_judged_where_they_are_chosen() -> None:
    """Where routing brings harm and luck alone, the best threshold in hindsight gains, and the forecast does not."""
    rng = np.random.default_rng(0)
    logits_NC = rng.normal(size=(2000, 8)).astype(np.float32)
    answers = BasePredictions(logits_NC, rng.integers(8, size=2000))
    partition = Partition.from_assignment(np.arange(8) % 2)
    outlook = Outlook.of(answers, partition)
    certain_N, _ = outlook.change(answers, "hard")
    found = forecast(answers, outlook, "hard", Skill(0.0, 0.0))
    assert found.gain < best_gain(answers, certain_N)
    assert found.gain < 0.002


def test_one_cluster_and_one_per_class_gain_nothing() -> None:
    answers = contenders_of(5)
    for assignment in ([0] * 6, range(6)):
        for rule in ("hard", "compose", "blend"):
            found = forecast(answers, Outlook.of(answers, Partition.from_assignment(assignment)), rule, SURE)
            assert (found.gain, found.low, found.high, found.routed) == (0, 0, 0, 0)
            assert found.routed_for(0.001) is None


def test_a_gain_is_reached_by_no_more_routing_than_needed() -> None:
    answers, partition = planted()
    found = forecast(answers, Outlook.of(answers, partition), "hard", Skill(0.3, 0.0))
    some = found.routed_for(0.01)
    assert some is not None
    assert 0 < some < found.routed < 1
    assert found.mean_curve_N[round(some * answers.n_samples) - 1] >= 0.01
    assert (found.mean_curve_N[: round(some * answers.n_samples) - 1] < 0.01).all()


def test_the_same_samples_give_the_same_forecast() -> None:
    answers, partition = planted(500)
    first, second = (forecast(answers, Outlook.of(answers, partition)) for _ in range(2))
    np.testing.assert_array_equal(first.gain_B, second.gain_B)


@pytest.mark.parametrize(
    ("logits_NC", "label_N", "message"),
    [
        (np.full((4, 2), 0.5), np.zeros(4, dtype=int), "are probabilities"),
        (np.ones((4, 1)), np.zeros(4, dtype=int), "C at least 2"),
        (np.zeros((4, 3)), np.zeros(5, dtype=int), "the numbers must be equal"),
        (np.array([[0.0, np.nan]]), np.zeros(1, dtype=int), "must be finite; row 0"),
        (np.zeros((4, 3)), np.full(4, 3), "label 3 is not a class"),
        (np.zeros((4, 3)), np.full(4, -1), "label -1 is not a class"),
    ],
)
def test_what_are_no_logits_is_refused(logits_NC: np.ndarray, label_N: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BasePredictions(logits_NC, label_N)


def test_a_gate_routes_what_its_limits_allow() -> None:
    assert routable(None, None, 1.0) == 1
    assert routable(1.5, None, 1.0) == 0.5
    assert routable(1.5, None, 0.8) == 0.625
    assert routable(3.0, None, 1.0) == 1
    assert routable(1.5, 0.2, 1.0) == 0.2
