from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coterie.ensemble.answer import TensorRule
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.gate import N_FEATURES, SCORES, GainModel, Gate
from coterie.routing.rule import Rule
from coterie.vocabulary import Mixture, ScoreName

N = 12


@st.composite
def partitions(draw) -> Partition:
    """One partition, two side by side, or a cover."""
    n_classes = draw(st.integers(1, 9))
    some = [
        Partition.from_assignment(draw(st.lists(st.integers(0, 3), min_size=n_classes, max_size=n_classes)))
        for _ in range(draw(st.integers(1, 2)))
    ]
    if len(some) == 2 and draw(st.booleans()):  # a cover: no layers
        return Partition(Partition.stack(some).member_SC)
    return Partition.stack(some) if len(some) == 2 else some[0]


@st.composite
def rules(draw, partition: Partition) -> Rule:
    def of_clusters(values) -> tuple[float, ...]:
        number = draw(st.sampled_from([1, partition.n_clusters]))
        return tuple(draw(st.lists(values, min_size=number, max_size=number)))

    score = draw(st.sampled_from(get_args(ScoreName)))
    coefficients = tuple(np.random.default_rng(draw(st.integers(0, 9))).normal(size=N_FEATURES).tolist())
    heat = st.sampled_from([1.0, 0.7, 2.5])
    return Rule(
        Gate(0.0, score, GainModel(0.1, coefficients) if score == "learned" else None),
        Combiner(
            draw(st.sampled_from(get_args(Mixture))),
            of_clusters(st.sampled_from([0.0, 0.3, 0.9, 1.0])),
            draw(st.integers(1, 3)),
            draw(st.booleans()),
            draw(st.sampled_from([1.0, 0.7, 3.0])),
        ),
        Temperatures(draw(heat), of_clusters(heat)),
    )


@st.composite
def cases(draw):
    partition = draw(partitions())
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    # Of equal logits, the first cluster is the likeliest; of large ones, float32 holds fewer places than are compared.
    scale = draw(st.sampled_from([0.0, 1.0, 4.0]))
    base_NC = (scale * rng.normal(size=(N, partition.n_classes))).astype(np.float32)
    packed_NM = (scale * rng.normal(size=(N, len(partition.packed_class_M)))).astype(np.float32)
    rule = draw(rules(partition))
    # Between two scores: which rows are routed must not hang on the last bit of one.
    score_N = np.unique(rule.ask(base_NC, partition).score_N.astype(float))
    gaps = [(low + high) / 2 for low, high in pairwise(score_N) if high - low > 1e-4 * max(1, abs(high))]
    threshold = draw(st.sampled_from([-np.inf, np.inf, *gaps]))
    return replace(rule, gate=replace(rule.gate, threshold=threshold)), partition, base_NC, packed_NM


def packed(tensors: TensorRule, packed_NM: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Packed logits as a rule of tensors takes them."""
    answer_NM = torch.as_tensor(packed_NM)
    return torch.cat([answer_NM, tensors.no_answers(answer_NM)[:, -1:]], 1)


@given(cases())
def test_tensors_agree_with_the_arrays_only_rule(case) -> None:
    rule, partition, base_NC, packed_NM = case
    expected, tensors = rule.ask(base_NC, partition), TensorRule(rule, partition)
    question = tensors.ask(torch.from_numpy(base_NC))
    asked_NS = expected.asked(expected.routed_N)
    np.testing.assert_allclose(question.score_N, expected.score_N, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(question.routed_N, expected.routed_N)
    np.testing.assert_array_equal(question.cluster_NT[:, 0], expected.answer.cluster_N)
    np.testing.assert_array_equal(tensors.asked_NS(question), asked_NS)
    proba_NC = tensors.combine(question, packed(tensors, packed_NM)).numpy()
    np.testing.assert_allclose(proba_NC, expected.combine(packed_NM, asked_NS), atol=1e-6)
    values_NC = tensors.combine_logits(question, packed(tensors, packed_NM))
    assert values_NC.isfinite().all()
    np.testing.assert_allclose(values_NC.softmax(1), proba_NC, atol=1e-6)
    np.testing.assert_array_equal(proba_NC[~asked_NS.any(axis=1)], question.proba_NC[~asked_NS.any(axis=1)])
    # The plan is what the routing wing counts as passes.
    runs_NS = asked_NS & rule.combiner.needs_specialist(partition)
    plan = question.plan()
    assert plan.finite
    assert plan.asks == asked_NS.any()
    assert {cluster: rows.tolist() for cluster, rows in plan.rows.items()} == {
        s: np.flatnonzero(runs_NS[:, s]).tolist() for s in range(partition.n_clusters) if runs_NS[:, s].any()
    }
    np.testing.assert_array_equal(tensors.ran_NM(question), np.repeat(runs_NS, partition.size_S, axis=1))


@given(cases())
def test_a_single_sample_gets_what_it_gets_among_others(case) -> None:
    rule, partition, base_NC, packed_NM = case
    tensors = TensorRule(rule, partition)
    together_NC = tensors.combine(tensors.ask(torch.from_numpy(base_NC)), packed(tensors, packed_NM))
    for row in range(N):
        question = tensors.ask(torch.from_numpy(base_NC[row : row + 1]))
        plan = question.plan()
        answers = [torch.from_numpy(packed_NM[row, partition.columns(cluster)]) for cluster in plan.rows]
        answer_V = torch.cat(answers) if answers else None
        packed_1A = tensors.packed(question.logits_NC, plan, answer_V)
        np.testing.assert_allclose(tensors.combine(question, packed_1A)[0], together_NC[row], atol=1e-6)
        if question.cluster_NT.numel() == 1 and answer_V is not None:
            values_1C = tensors.combine_logits_of_one(question, plan, answer_V)
            assert values_1C.isfinite().all()
            np.testing.assert_allclose(values_1C.softmax(1)[0], together_NC[row], atol=1e-6)


@pytest.mark.parametrize("mixture", get_args(Mixture))
@pytest.mark.parametrize("weights", [(1.0,), (0.4,), (0.0, 0.5, 1.0)])
@pytest.mark.parametrize("keeps_rest", [True, False])
def test_gradients_are_finite_and_those_of_differences(mixture, weights, keeps_rest) -> None:
    partition = Partition.from_assignment([0, 0, 1, 1, 1, 2])
    rule = Rule(Gate(0.0), Combiner(mixture, weights, 2, keeps_rest, 1.3), Temperatures(1.5, (0.5,)))
    tensors = TensorRule(rule, partition)

    def answer(base_NC: torch.Tensor, packed_NM: torch.Tensor) -> torch.Tensor:
        return tensors.combine(tensors.ask(base_NC), packed(tensors, packed_NM))[:, 3].sum()

    generator = torch.Generator().manual_seed(0)
    base_NC, packed_NM = (torch.randn(4, 6, generator=generator, requires_grad=True) for _ in range(2))
    gradients = torch.autograd.grad(answer(base_NC, packed_NM), (base_NC, packed_NM))
    step_NC, step_NM = (1e-3 * torch.randn(4, 6, generator=generator) for _ in range(2))
    with torch.no_grad():
        ahead, behind = answer(base_NC + step_NC, packed_NM + step_NM), answer(base_NC - step_NC, packed_NM - step_NM)
    along = sum((gradient * step).sum() for gradient, step in zip(gradients, (step_NC, step_NM), strict=True))
    assert float(along) == pytest.approx(float(ahead - behind) / 2, abs=3e-6)


def test_what_improbable_clusters_say_is_not_lost_to_rounding() -> None:
    partition = Partition.from_assignment([0, 0, 1, 1])
    base_NC = np.array([[300.0, 200.0, -300.0, -310.0]], dtype=np.float32)
    packed_NM = np.array([[-50.0, 50.0, 3.0, 4.0]], dtype=np.float32)
    rule = Rule(Gate(-np.inf), Combiner("geometric", (0.5,), 2, temperature=20.0))
    expected = rule.ask(base_NC, partition)
    tensors = TensorRule(rule, partition)
    proba_NC = tensors.combine(tensors.ask(torch.from_numpy(base_NC)), packed(tensors, packed_NM))
    np.testing.assert_allclose(proba_NC, expected.combine(packed_NM, np.array([[True, True]])), atol=1e-6)


def test_every_score_has_its_tensors() -> None:
    assert {*SCORES, "learned"} == set(get_args(ScoreName))
