from dataclasses import replace

import numpy as np
import pytest

from coterie.partition import Partition
from coterie.routing import fitting
from coterie.routing.calibration import Temperatures, fit_temperatures
from coterie.routing.combine import Combiner
from coterie.routing.evaluation import Outputs, Routing
from coterie.routing.fitting import (
    PAPER,
    TRIED_W,
    Combination,
    WeightCurve,
    calibrate_mixture,
    fit_rules,
    in_chunks,
    informative_specialists,
    subsample,
)
from coterie.routing.gate import Gate
from coterie.routing.rule import Rule

PARTITION = Partition.from_assignment([0, 0, 0, 1, 1, 1, 2])


def make_outputs(n: int, skill: tuple[float, float], seed: int = 0) -> Outputs:
    """A base whose errors stay inside clusters, and specialists that know the true class by their skill."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(7, size=n)
    near_CC = np.eye(7) + 1.5 * (PARTITION.member_SC.T @ PARTITION.member_SC)
    skill_M = np.repeat((*skill, 1.0), PARTITION.size_S)
    own_NM = skill_M * np.eye(7)[label_N][:, PARTITION.packed_class_M]
    return Outputs(1.5 * near_CC[label_N] + rng.normal(size=(n, 7)), 2 * own_NM + rng.normal(size=(n, 7)), label_N)


def slow_counts(outputs: Outputs, temperatures: Temperatures, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Right answers, and changed ones, by likeliest cluster: one sample after the other."""
    rule = Rule(Gate(-np.inf), Combiner("geometric", (weight,)), temperatures)
    right_S, changed_S = np.zeros((2, PARTITION.n_clusters), dtype=int)
    for row in range(len(outputs.label_N)):
        routing = Routing.of(outputs.take(np.array([row])), PARTITION, rule)
        (before,), (after,) = routing.right(outputs.label_N[[row]])
        right_S[routing.cluster_N[0]] += after
        changed_S[routing.cluster_N[0]] += after != before
    return right_S, changed_S


def test_a_weight_curve_counts_what_combining_sample_by_sample_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "CHUNK", 17)
    outputs = make_outputs(120, (1.0, 0.2))
    temperatures = fit_temperatures(outputs.base_NC, outputs.packed_NM, outputs.label_N, PARTITION)
    curve = WeightCurve.measure("geometric", temperatures, outputs, PARTITION)
    for place, weight in enumerate(TRIED_W.tolist()):
        right_S, changed_S = slow_counts(outputs, temperatures, weight)
        np.testing.assert_array_equal(curve.right_SW[:, place], right_S)
        np.testing.assert_array_equal(curve.changed_SW[:, place], changed_S)


def test_the_weight_is_where_the_parabola_is_highest() -> None:
    right_W = 1000 - 400 * (TRIED_W - 0.35) ** 2
    right_SW = np.tile(right_W.round().astype(int), (3, 1))
    curve = WeightCurve(right_SW, np.full_like(right_SW, 10**5), 1)  # no harm can be told
    np.testing.assert_allclose(curve.choose(Combination("blend")), 0.35)
    np.testing.assert_allclose(curve.choose(Combination("blend", by_cluster=True)), 0.35)
    assert curve.choose(Combination("compose")).tolist() == [1, 1, 1]


def test_a_cluster_with_few_samples_follows_the_others_and_one_with_many_has_its_own_weight() -> None:
    few, many, common = (n - n * (TRIED_W - best) ** 2 for n, best in ((20, 0.1), (50_000, 0.1), (50_000, 0.9)))
    weight_S = WeightCurve(np.array([few, many, common]), np.full((3, 6), 1e6), 1).choose(Combination("blend", 1, True))
    assert weight_S[1] < 0.2 < 0.4 < weight_S[0]
    assert weight_S[2] > 0.8


def test_harm_of_more_than_a_standard_error_costs_the_weight() -> None:
    right_SW = np.tile(np.full(6, 100), (2, 1))
    right_SW[:, -1] = 100 - 8  # compose has weight 1
    changed_SW = np.array([[60] * 6, [70] * 6])  # standard errors of 7.7 and 8.4
    assert WeightCurve(right_SW, changed_SW, 1).choose(Combination("compose")).tolist() == [0, 1]


def test_a_specialist_that_guesses_is_not_informative() -> None:
    outputs = make_outputs(3000, (1.0, 0.0))
    temperatures = fit_temperatures(outputs.base_NC, outputs.packed_NM, outputs.label_N, PARTITION)
    assert informative_specialists(temperatures, outputs, PARTITION).tolist() == [True, False, True]
    # Of samples of other clusters nothing can be said.
    elsewhere = outputs.take(PARTITION.cluster_of_class_C[outputs.label_N] == 0)
    assert informative_specialists(temperatures, elsewhere, PARTITION).tolist() == [True, True, True]


def test_the_papers_rule_is_not_fitted_and_others_share_their_temperatures() -> None:
    outputs = make_outputs(800, (1.0, 0.0))
    blend, average = Combination("blend"), Combination("average", 2)
    rules = fit_rules([PAPER, blend, average], outputs, PARTITION)
    assert rules[PAPER] == Rule(Gate(-np.inf))
    assert rules[blend].temperatures == rules[average].temperatures != Temperatures()
    assert (rules[average].combiner.top, rules[average].combiner.mixture) == (2, "arithmetic")
    assert rules[blend].fallen_back(PARTITION) == (1,)


def test_the_mixtures_temperature_is_the_likeliest_of_a_grid() -> None:
    outputs = make_outputs(2000, (1.5, 1.5))
    rule = calibrate_mixture(replace(Rule(Gate(0.3)), combiner=Combiner("product")), outputs, PARTITION)

    def loss(heat: float) -> float:
        tempered = replace(rule, combiner=replace(rule.combiner, temperature=heat))
        proba_NC = Routing.of(outputs, PARTITION, tempered).proba_NC()
        return float(-np.log(proba_NC[np.arange(2000), outputs.label_N]).mean())

    assert rule.combiner.temperature != 1
    grid = rule.combiner.temperature * np.array([0.9, 0.95, 1.0, 1.05, 1.1])
    assert np.argmin([loss(heat) for heat in grid]) == 2
    paper = Rule(Gate(0.3))
    assert calibrate_mixture(paper, outputs, PARTITION) == paper


def test_rows_are_worked_off_in_chunks_and_drawn_once() -> None:
    parts = in_chunks(np.arange(20_000))
    assert max(map(len, parts)) <= fitting.CHUNK
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(20_000))
    outputs = make_outputs(11_000, (1.0, 1.0))
    first, second = subsample(outputs), subsample(outputs)
    assert len(first.label_N) == fitting.FIT_SAMPLES
    np.testing.assert_array_equal(first.base_NC, second.base_NC)
    few = make_outputs(10, (1.0, 1.0))
    assert subsample(few) is few
