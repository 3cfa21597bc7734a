import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import adjusted_rand_score

from coterie.errors import PartitionError
from coterie.partition import Partition

assignments = arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 6))


@given(assignments)
def test_an_assignment_survives_a_round_trip_up_to_names(assignment: np.ndarray) -> None:
    partition = Partition.from_assignment(assignment)
    assert adjusted_rand_score(assignment, partition.cluster_of_class_C) == 1.0
    assert partition.size_S.sum() == len(assignment)
    firsts = [partition.classes(s)[0] for s in range(partition.n_clusters)]
    assert firsts == sorted(firsts)


@given(assignments, st.permutations(range(7)))
def test_renaming_clusters_changes_nothing(assignment: np.ndarray, names: list[int]) -> None:
    renamed = np.asarray(names)[assignment]
    before, after = Partition.from_assignment(assignment), Partition.from_assignment(renamed)
    np.testing.assert_array_equal(before.member_SC, after.member_SC)


@given(assignments)
def test_packed_columns_hold_each_cluster_in_turn(assignment: np.ndarray) -> None:
    partition = Partition.from_assignment(assignment)
    for cluster in range(partition.n_clusters):
        packed = partition.packed_class_M[partition.columns(cluster)]
        np.testing.assert_array_equal(packed, partition.classes(cluster))


@given(assignments, st.integers(0, 100))
def test_mass_is_the_sum_over_a_clusters_classes(assignment: np.ndarray, seed: int) -> None:
    partition = Partition.from_assignment(assignment)
    proba_NC = np.random.default_rng(seed).dirichlet(np.ones(len(assignment)), size=4)
    slow = [[row[partition.classes(s)].sum() for s in range(partition.n_clusters)] for row in proba_NC]
    np.testing.assert_allclose(partition.mass_NS(proba_NC), slow)


@given(assignments, st.integers(0, 100))
def test_the_likeliest_cluster_is_the_first_with_the_largest_mass(assignment: np.ndarray, seed: int) -> None:
    partition = Partition.from_assignment(assignment)
    proba_NC = np.random.default_rng(seed).integers(0, 3, size=(5, len(assignment))) / 4  # sums are exact
    slow = []
    for row in proba_NC:
        masses = [sum(row[label] for label in partition.classes(s)) for s in range(partition.n_clusters)]
        slow.append(masses.index(max(masses)))
    assert partition.likeliest_N(partition.mass_NS(proba_NC)).tolist() == slow


@given(assignments, st.integers(0, 100))
def test_own_rows_are_those_of_a_clusters_classes_by_their_place_in_it(assignment: np.ndarray, seed: int) -> None:
    partition = Partition.from_assignment(assignment)
    label_N = np.random.default_rng(seed).integers(len(assignment), size=20)
    for cluster in range(partition.n_clusters):
        classes = partition.classes(cluster).tolist()
        expected = [(row, classes.index(label)) for row, label in enumerate(label_N.tolist()) if label in classes]
        row_R, local_R = partition.own_rows(cluster, label_N)
        assert list(zip(row_R.tolist(), local_R.tolist(), strict=True)) == expected


def test_overlapping_clusters_are_a_partition_value_too() -> None:
    cover = Partition(np.array([[True, True, False], [False, True, True]]))
    assert cover.packed_class_M.tolist() == [0, 1, 1, 2]
    assert cover.mass_NS(np.array([[0.2, 0.3, 0.5]])).round(6).tolist() == [[0.5, 0.8]]


def test_a_partition_checks_itself() -> None:
    with pytest.raises(PartitionError, match=r"empty clusters: \[1\]"):
        Partition(np.array([[True, True], [False, False]]))
    with pytest.raises(PartitionError, match=r"classes in none: \[1\]"):
        Partition(np.array([[True, False]]))
    with pytest.raises(PartitionError, match="boolean"):
        Partition(np.ones((2, 2)))
    with pytest.raises(PartitionError, match="one cluster per class"):
        Partition.from_assignment([])


def test_partitions_side_by_side_know_whose_each_cluster_is() -> None:
    both = Partition.stack([Partition.from_assignment([0, 0, 1]), Partition.from_assignment([0, 1, 1])])
    assert both.n_clusters == 4
    assert both.overlaps
    assert [clusters.tolist() for clusters in both.layers] == [[0, 1], [2, 3]]
    assert both.packed_class_M.tolist() == [0, 1, 2, 0, 1, 2]
    assert [clusters.tolist() for clusters in Partition.from_assignment([0, 1]).layers] == [[0, 1]]
    # The cluster of a sample is one of the first partition's, however large the others' are.
    assert both.likeliest_N(np.array([[0.4, 0.6, 0.1, 0.9], [0.7, 0.3, 0.9, 0.1]])).tolist() == [1, 0]


def test_partitions_of_other_classes_cannot_lie_side_by_side() -> None:
    with pytest.raises(PartitionError, match=r"numbers of classes \[2, 3\]"):
        Partition.stack([Partition.from_assignment([0, 1]), Partition.from_assignment([0, 1, 1])])
    with pytest.raises(PartitionError, match="need as many layers"):
        Partition(np.eye(2, dtype=bool), (0,))
