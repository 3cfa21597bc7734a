import numpy as np
import pytest

from coterie.errors import PartitionError
from coterie.partition import (
    PartitionRequest,
    given_partition,
    make_partition,
    random_partition,
    scalable_spectral_partition,
)
from planted import planted_vectors


def test_given_groups_are_the_clusters() -> None:
    partition = given_partition(["b", "a", "b", "c"], 4)
    assert [partition.classes(s).tolist() for s in range(3)] == [[0, 2], [1], [3]]
    by_name = make_partition(PartitionRequest("given"), np.eye(4), groups=["b", "a", "b", "c"])
    np.testing.assert_array_equal(by_name.cluster_of_class_C, partition.cluster_of_class_C)
    with pytest.raises(PartitionError, match="method given needs groups"):
        make_partition(PartitionRequest("given"), np.eye(4))
    with pytest.raises(PartitionError, match="3 groups given for 4 classes"):
        given_partition([0, 1, 2], 4)


def test_random_clusters_have_the_sizes_asked() -> None:
    partition = random_partition([5, 1, 3], seed=1)
    assert sorted(partition.size_S.tolist()) == [1, 3, 5]
    assert not np.array_equal(partition.cluster_of_class_C, random_partition([5, 1, 3], seed=2).cluster_of_class_C)
    with pytest.raises(PartitionError, match=r"at least 1; got \[2, 0\]"):
        random_partition([2, 0])


def test_random_is_the_control_of_spectral() -> None:
    vectors_CD, _ = planted_vectors(50, 5, 0.5)
    control = make_partition(PartitionRequest("random", 5), vectors_CD)
    spectral = scalable_spectral_partition(vectors_CD, 5)
    assert sorted(control.size_S.tolist()) == sorted(spectral.size_S.tolist())
