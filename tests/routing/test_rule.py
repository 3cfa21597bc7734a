import numpy as np
import pytest
from scipy.special import softmax

from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import BaseAnswer, Combiner, combine
from coterie.routing.gate import Gate, entropy
from coterie.routing.rule import Rule

PARTITION = Partition.from_assignment([0, 0, 1, 1, 2])
LOGITS_NC = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
PACKED_NM = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)


def test_the_papers_rule_routes_by_entropy_at_the_threshold() -> None:
    question = Rule(Gate(1.2)).ask(LOGITS_NC, PARTITION)
    expected_N = entropy(softmax(LOGITS_NC, axis=1))
    np.testing.assert_allclose(question.score_N, expected_N, rtol=1e-6)
    np.testing.assert_array_equal(question.routed_N, expected_N >= 1.2)
    assert 0 < question.routed_N.sum() < 40


def test_temperature_1_leaves_the_base_bit_for_bit() -> None:
    np.testing.assert_array_equal(Rule(Gate(0.0)).base_logits(LOGITS_NC), LOGITS_NC)
    halved = Rule(Gate(0.0), temperatures=Temperatures(2.0)).base_logits(LOGITS_NC)
    np.testing.assert_array_equal(halved, LOGITS_NC / 2)
    assert halved.dtype == np.float32


@pytest.mark.parametrize("keeps_rest", [False, True])
def test_a_one_class_cluster_costs_no_pass(keeps_rest: bool) -> None:
    question = Rule(Gate(0.0), Combiner(keeps_rest=keeps_rest)).ask(LOGITS_NC, PARTITION)
    asked_NS = question.asked(np.ones(40, dtype=bool))
    alone_N = question.answer.cluster_N == 2
    assert 0 < alone_N.sum() < 40
    np.testing.assert_array_equal(question.extra_passes(asked_NS), ~alone_N)


def test_samples_that_are_not_routed_ask_no_cluster() -> None:
    question = Rule(Gate(1.2)).ask(LOGITS_NC, PARTITION)
    asked_NS = question.asked(question.routed_N)
    np.testing.assert_array_equal(asked_NS.sum(axis=1), question.routed_N)
    proba_NC = question.combine(PACKED_NM, asked_NS)
    np.testing.assert_array_equal(proba_NC[~question.routed_N], question.answer.proba_NC[~question.routed_N])


def test_each_column_is_divided_by_the_temperature_of_its_cluster() -> None:
    temperatures = Temperatures(1.5, (2.0, 0.5, 1.0))
    rule = Rule(Gate(0.0), Combiner(weight_S=(0.5,)), temperatures)
    question = rule.ask(LOGITS_NC, PARTITION)
    asked_NS = question.asked(np.ones(40, dtype=bool))
    divided_NM = PACKED_NM / np.array([2, 2, 0.5, 0.5, 1], dtype=np.float32)
    expected = combine(rule.combiner, BaseAnswer(LOGITS_NC / np.float32(1.5), PARTITION), divided_NM, asked_NS)
    np.testing.assert_array_equal(question.combine(PACKED_NM, asked_NS), expected)


def test_clusters_without_weight_are_named() -> None:
    rule = Rule(Gate(0.0), Combiner(weight_S=(0.0, 0.7, 0.0)))
    assert rule.fallen_back(PARTITION) == (0,)  # cluster 2 has one class and never had a specialist
    assert Rule(Gate(0.0)).fallen_back(PARTITION) == ()
