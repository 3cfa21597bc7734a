from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from coterie.errors import InputError
from coterie.partition import Partition
from coterie.routing.combine import BaseAnswer, Combiner, combine, mix
from coterie.vocabulary import CombinerName, Mixture

NAMES = get_args(CombinerName)


@st.composite
def partitions(draw: st.DrawFn) -> Partition:
    return Partition.from_assignment(draw(arrays(np.int64, st.integers(2, 12), elements=st.integers(0, 3))))


@st.composite
def covers(draw: st.DrawFn) -> Partition:
    """Partitions whose clusters took in some classes of others."""
    plain = draw(partitions())
    more_SC = draw(arrays(np.bool_, (plain.n_clusters, plain.n_classes)))
    return Partition(plain.member_SC | more_SC)


@st.composite
def cases(draw: st.DrawFn, grouping=covers()) -> tuple[BaseAnswer, np.ndarray, np.ndarray]:  # noqa: B008 - a strategy
    partition = draw(grouping)
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n = draw(st.integers(1, 8))
    answer = BaseAnswer(3 * rng.normal(size=(n, partition.n_classes)), partition)
    return answer, 3 * rng.normal(size=(n, len(partition.packed_class_M))), draw(arrays(np.bool_, n))


@st.composite
def combiners(draw: st.DrawFn) -> Combiner:
    weight = draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    return Combiner(draw(st.sampled_from(get_args(Mixture))), (weight,), draw(st.integers(1, 3)), draw(st.booleans()))


@given(cases(), combiners())
def test_rows_sum_to_one_and_unrouted_rows_are_the_bases_bit_for_bit(case, combiner) -> None:
    answer, packed_NM, routed_N = case
    proba_NC = combine(combiner, answer, packed_NM, combiner.asked(answer, routed_N))
    np.testing.assert_allclose(proba_NC.sum(axis=1), 1.0)
    np.testing.assert_array_equal(proba_NC[~routed_N], softmax(answer.logits_NC, axis=1)[~routed_N])


@given(cases(partitions()), combiners())
def test_a_combiner_that_keeps_the_rest_keeps_the_mass_of_every_cluster(case, combiner) -> None:
    answer, packed_NM, routed_N = case
    combiner = Combiner(combiner.mixture, combiner.weight_S, combiner.top, keeps_rest=True)
    proba_NC = combine(combiner, answer, packed_NM, combiner.asked(answer, routed_N))
    np.testing.assert_allclose(answer.partition.mass_NS(proba_NC), answer.mass_NS)


@given(cases(partitions()))
def test_hard_agrees_with_the_papers_rule_written_plainly(case) -> None:
    answer, packed_NM, routed_N = case
    partition, combiner = answer.partition, Combiner.named("hard")
    proba_NC = combine(combiner, answer, packed_NM, combiner.asked(answer, routed_N))
    for row, routed in enumerate(routed_N):
        expected = answer.proba_NC[row]
        if routed:
            masses = [sum(expected[k] for k in partition.classes(s)) for s in range(partition.n_clusters)]
            cluster = int(np.argmax(masses))
            expected = np.zeros(partition.n_classes)
            expected[partition.classes(cluster)] = softmax(packed_NM[row, partition.columns(cluster)])
        np.testing.assert_allclose(proba_NC[row], expected, atol=1e-12)


@given(cases(partitions()), st.sampled_from(get_args(Mixture)), st.floats(0, 1), st.integers(1, 3))
def test_mixtures_agree_with_their_formulas_in_the_most_likely_clusters(case, mixture, weight, top) -> None:
    answer, packed_NM, routed_N = case
    partition, combiner = answer.partition, Combiner(mixture, (weight,), top)
    proba_NC = combine(combiner, answer, packed_NM, combiner.asked(answer, routed_N))
    for row, routed in enumerate(routed_N):
        expected = answer.proba_NC[row].copy()
        for cluster in np.argsort(-answer.mass_NS[row], kind="stable")[: top if routed else 0]:
            classes = partition.classes(cluster)
            mass = expected[classes].sum()
            p, q = expected[classes] / mass, softmax(packed_NM[row, partition.columns(cluster)])
            mixed = {
                "geometric": p ** (1 - weight) * q**weight,
                "arithmetic": (1 - weight) * p + weight * q,
                "product": p * q**weight,
            }[mixture]
            expected[classes] = mass * mixed / mixed.sum()
        np.testing.assert_allclose(proba_NC[row], expected, rtol=1e-7, atol=1e-12)


@given(cases(), combiners(), st.floats(0.2, 5))
def test_a_temperature_is_a_power_of_the_rows_that_ask(case, combiner, temperature) -> None:
    answer, packed_NM, routed_N = case
    asked_NS = combiner.asked(answer, routed_N)
    plain_NC = combine(combiner, answer, packed_NM, asked_NS)
    tempered_NC = combine(replace(combiner, temperature=temperature), answer, packed_NM, asked_NS)
    power_NC = plain_NC ** (1 / temperature)
    asks_N = asked_NS.any(axis=1)
    np.testing.assert_allclose(tempered_NC[asks_N], (power_NC / power_NC.sum(axis=1, keepdims=True))[asks_N], rtol=1e-6)
    np.testing.assert_array_equal(tempered_NC[~asks_N], plain_NC[~asks_N])


@given(cases(covers()), st.integers(1, 3))
def test_in_a_cover_a_class_gets_the_geometric_mean_of_what_the_asked_clusters_give_it(case, top) -> None:
    answer, packed_NM, _ = case
    partition, combiner = answer.partition, Combiner("geometric", (0.6,), top)
    asked_NS = combiner.asked(answer, np.ones(len(packed_NM), dtype=bool))
    proba_NC = combine(combiner, answer, packed_NM, asked_NS)
    for row in range(len(packed_NM)):
        alone = []
        for cluster in np.flatnonzero(asked_NS[row]):
            only_NS = np.zeros_like(asked_NS)
            only_NS[row, cluster] = True
            alone.append((partition.classes(cluster), combine(combiner, answer, packed_NM, only_NS)[row]))
        values = answer.proba_NC[row].copy()
        for k in range(partition.n_classes):
            given_k = [proba_C[k] for classes, proba_C in alone if k in classes]
            if given_k:
                values[k] = np.exp(np.mean(np.log(given_k)))
        np.testing.assert_allclose(proba_NC[row], values / values.sum(), rtol=1e-6)


@given(st.integers(0, 1000), st.integers(1, 2))
def test_of_partitions_side_by_side_each_is_asked_and_the_geometric_mean_taken(seed, top) -> None:
    parts = [Partition.from_assignment([0, 0, 1, 1, 2, 2]), Partition.from_assignment([0, 1, 1, 0, 0, 1])]
    both, combiner, rng = Partition.stack(parts), Combiner("geometric", (0.6,), top), np.random.default_rng(seed)
    logits_NC, packed_NM = rng.normal(size=(4, 6)), rng.normal(size=(4, 12))
    answer = BaseAnswer(logits_NC, both)
    asked_NS = combiner.asked(answer, np.ones(4, dtype=bool))
    alone, held = [], []
    for part, clusters, columns in zip(parts, both.layers, (slice(6), slice(6, 12)), strict=True):
        single = BaseAnswer(logits_NC, part)
        asked = combiner.asked(single, np.ones(4, dtype=bool))
        np.testing.assert_array_equal(asked_NS[:, clusters], asked)
        alone.append(combine(combiner, single, packed_NM[:, columns], asked))
        held.append(asked @ part.member_SC)
    expected = np.where(held[0] & held[1], np.sqrt(alone[0] * alone[1]), np.where(held[0], alone[0], alone[1]))
    together = combine(combiner, answer, packed_NM, asked_NS)
    np.testing.assert_allclose(together, expected / expected.sum(axis=1, keepdims=True), rtol=1e-9)


@given(cases(), combiners(), st.randoms())
def test_shuffling_rows_changes_nothing(case, combiner, random) -> None:
    answer, packed_NM, routed_N = case
    order = list(range(len(routed_N)))
    random.shuffle(order)
    plain = combine(combiner, answer, packed_NM, combiner.asked(answer, routed_N))
    answer = BaseAnswer(answer.logits_NC[order], answer.partition)
    shuffled = combine(combiner, answer, packed_NM[order], combiner.asked(answer, routed_N[order]))
    np.testing.assert_array_equal(plain[order], shuffled)


@given(cases(partitions()), st.sampled_from(NAMES), st.randoms())
def test_renaming_clusters_changes_nothing(case, name, random) -> None:
    answer, packed_NM, routed_N = case
    partition = answer.partition
    order = list(range(partition.n_clusters))
    random.shuffle(order)
    weight_S = np.linspace(0.2, 0.9, partition.n_clusters)
    renamed = BaseAnswer(answer.logits_NC, Partition(partition.member_SC[order]))
    columns = np.concatenate([np.arange(len(packed_NM[0]))[partition.columns(k)] for k in order])
    first, second = Combiner.named(name, tuple(weight_S)), Combiner.named(name, tuple(weight_S[order]))
    np.testing.assert_allclose(
        combine(first, answer, packed_NM, first.asked(answer, routed_N)),
        combine(second, renamed, packed_NM[:, columns], second.asked(renamed, routed_N)),
    )


@given(cases())
def test_without_weight_the_base_stands_bit_for_bit_and_nobody_is_asked(case) -> None:
    answer, packed_NM, routed_N = case
    for name in ("compose", "blend", "average", "product"):
        combiner = Combiner.named(name, (0.0,))
        asked_NS = combiner.asked(answer, routed_N)
        assert not asked_NS.any()
        np.testing.assert_array_equal(combine(combiner, answer, packed_NM, asked_NS), answer.proba_NC)


def test_values_of_clusters_that_were_not_asked_are_never_read() -> None:
    partition = Partition.from_assignment([0, 0, 1, 1, 2])
    answer = BaseAnswer(np.array([[2.0, 2.0, 0.0, 0.0, 3.0]]), partition)
    packed_NM = np.array([[np.log(0.3), np.log(0.7), np.nan, np.nan, np.nan]])
    # The most likely cluster has a single class, so nobody is heard in it; the second is asked too.
    for combiner in (Combiner.named("hard", top=2), Combiner.named("blend", (0.5,), top=2)):
        proba_NC = combine(combiner, answer, packed_NM, combiner.asked(answer, np.array([True])))
        assert np.isfinite(proba_NC).all()
    alone = combine(Combiner.named("hard"), answer, packed_NM, np.array([[True, False, False]]))
    np.testing.assert_allclose(alone, [[0.3, 0.7, 0, 0, 0]], rtol=1e-12)


def test_a_mixture_of_certainties_stays_finite_in_float32() -> None:
    base, specialist = np.float32([[0.0, -80.0]]), np.float32([[-90.0, 0.0]])
    for mixture in get_args(Mixture):
        for weight in (0.0, 0.5, 1.0):
            mixed = mix(mixture, base, specialist, weight)
            assert mixed.dtype == np.float32
            assert not np.isnan(mixed).any()
            np.testing.assert_allclose(np.exp(mixed).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_gives_a_combiner_of_that_name(name) -> None:
    assert Combiner.named(name, (0.5, 1.0) if name not in ("hard", "compose") else (1.0,)).name == name


def test_the_chosen_cluster_is_the_likeliest_of_the_first_partition() -> None:
    first, second = Partition.from_assignment([0, 1, 1]), Partition.from_assignment([0, 0, 0])
    logits_NC = np.log([[0.4, 0.3, 0.3], [0.6, 0.2, 0.2]])
    answer = BaseAnswer(logits_NC, Partition.stack([first, second]))
    assert answer.cluster_N.tolist() == BaseAnswer(logits_NC, first).cluster_N.tolist() == [1, 0]
    np.testing.assert_allclose(answer.cluster_mass_N, [0.6, 0.6])


def test_what_does_not_fit_is_refused() -> None:
    partition = Partition.from_assignment([0, 1])
    with pytest.raises(InputError, match="do not fit a partition of 2 classes"):
        BaseAnswer(np.ones((1, 3)), partition)
    with pytest.raises(InputError, match="do not fit 1 samples and a partition of 2 classes"):
        combine(Combiner(), BaseAnswer(np.ones((1, 2)), partition), np.ones((1, 3)), np.ones((1, 2), dtype=bool))
    with pytest.raises(InputError, match="2 clusters need as many weights, or one"):
        Combiner(weight_S=(1.0, 0.5, 0.5)).weights(partition)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight_S": (1.2,)}, "from 0 to 1"),
        ({"weight_S": ()}, "from 0 to 1"),
        ({"top": 0}, "at least one cluster"),
        ({"temperature": 0.0}, "positive and finite; got 0.0"),
        ({"temperature": np.nan}, "positive and finite; got nan"),
        ({"mixture": "harmonic"}, "one of geometric, arithmetic, product"),
    ],
)
def test_combiners_that_cannot_be_are_refused(values, message) -> None:
    with pytest.raises(InputError, match=message):
        Combiner(**values)
