import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from coterie.combine import combine, packed_softmax, route
from coterie.errors import InputError
from coterie.partition import Partition


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Partition, np.ndarray]:
    partition = Partition.from_assignment(draw(arrays(np.int64, st.integers(2, 12), elements=st.integers(0, 3))))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n = draw(st.integers(1, 8))
    base_proba_NC = softmax(3 * rng.normal(size=(n, partition.n_classes)), axis=1)
    packed_NM = packed_softmax(3 * rng.normal(size=(n, int(partition.size_S.sum()))), partition)
    return base_proba_NC, packed_NM, partition, draw(arrays(np.bool_, n))


@given(cases(), st.sampled_from(["hard", "compose"]))
def test_rows_sum_to_one_and_unrouted_rows_are_untouched(case, combiner) -> None:
    base_proba_NC, packed_NM, partition, routed_N = case
    proba_NC = combine(combiner, base_proba_NC, packed_NM, partition, route(base_proba_NC, partition), routed_N)
    np.testing.assert_allclose(proba_NC.sum(axis=1), 1.0)
    np.testing.assert_array_equal(proba_NC[~routed_N], base_proba_NC[~routed_N])


@given(cases())
def test_compose_keeps_the_mass_of_every_cluster(case) -> None:
    base_proba_NC, packed_NM, partition, routed_N = case
    proba_NC = combine("compose", base_proba_NC, packed_NM, partition, route(base_proba_NC, partition), routed_N)
    np.testing.assert_allclose(partition.mass_NS(proba_NC), partition.mass_NS(base_proba_NC))


@given(cases())
def test_hard_agrees_with_the_papers_rule_written_plainly(case) -> None:
    base_proba_NC, packed_NM, partition, routed_N = case
    proba_NC = combine("hard", base_proba_NC, packed_NM, partition, route(base_proba_NC, partition), routed_N)
    for row, routed in enumerate(routed_N):
        if not routed:
            answer = int(np.argmax(base_proba_NC[row]))
        else:
            masses = [sum(base_proba_NC[row, k] for k in partition.classes(s)) for s in range(partition.n_clusters)]
            cluster = int(np.argmax(masses))
            conditional = packed_NM[row, partition.columns(cluster)]
            answer = int(partition.classes(cluster)[np.argmax(conditional)])
        assert proba_NC[row].argmax() == answer


@given(cases(), st.sampled_from(["hard", "compose"]), st.randoms())
def test_shuffling_rows_changes_nothing(case, combiner, random) -> None:
    base_proba_NC, packed_NM, partition, routed_N = case
    order = list(range(len(routed_N)))
    random.shuffle(order)
    plain = combine(combiner, base_proba_NC, packed_NM, partition, route(base_proba_NC, partition), routed_N)
    base_proba_NC, packed_NM, routed_N = base_proba_NC[order], packed_NM[order], routed_N[order]
    shuffled = combine(combiner, base_proba_NC, packed_NM, partition, route(base_proba_NC, partition), routed_N)
    np.testing.assert_array_equal(plain[order], shuffled)


def test_values_of_clusters_that_were_not_asked_are_never_read() -> None:
    partition = Partition.from_assignment([0, 0, 1, 1])
    packed_NM = np.array([[0.3, 0.7, np.nan, np.nan]])
    proba_NC = combine("hard", np.full((1, 4), 0.25), packed_NM, partition, np.array([0]), np.array([True]))
    assert proba_NC.tolist() == [[0.3, 0.7, 0.0, 0.0]]


def test_packed_softmax_is_a_softmax_per_cluster() -> None:
    partition = Partition.from_assignment([0, 1, 0])
    packed_NM = packed_softmax(np.array([[1.0, 2.0, 5.0]]), partition)
    np.testing.assert_allclose(packed_NM[0, :2], softmax([1.0, 2.0]))
    assert packed_NM[0, 2] == 1.0


def test_shapes_that_do_not_fit_are_refused() -> None:
    partition = Partition.from_assignment([0, 1])
    with pytest.raises(InputError, match="do not fit a partition of 2 classes"):
        combine("hard", np.ones((1, 3)) / 3, np.ones((1, 2)), partition, np.array([0]), np.array([True]))
