import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.errors import PartitionError
from coterie.partition import balanced_partition, confusion_partition
from coterie.partition.balanced import assign_capped
from coterie.partition.vectors import unit_rows


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 100))
def test_no_cluster_exceeds_its_cap(n_classes: int, max_size: int, seed: int) -> None:
    vectors_CD = np.random.default_rng(seed).normal(size=(n_classes, 5))
    partition = balanced_partition(vectors_CD, max_size=max_size)
    assert partition.size_S.max() <= max_size
    assert partition.n_clusters == -(-n_classes // max_size)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 100))
def test_a_class_misses_a_nearer_cluster_only_if_that_is_full_of_nearer_ones(
    n: int, n_clusters: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    unit_CD, centre_SD = unit_rows(rng.normal(size=(n, 4))), unit_rows(rng.normal(size=(n_clusters, 4)))
    max_size = -(-n // n_clusters)
    cluster_C, cosine_C = assign_capped(unit_CD, centre_SD, max_size)
    cosine_CS = unit_CD @ centre_SD.T
    sizes = np.bincount(cluster_C, minlength=n_clusters)
    assert sizes.max() <= max_size
    np.testing.assert_allclose(cosine_C, cosine_CS[np.arange(n), cluster_C], atol=1e-6)
    for label in range(n):
        for better in np.flatnonzero(cosine_CS[label] > cosine_C[label] + 1e-6):
            assert sizes[better] == max_size


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"n_clusters": 3, "max_size": 2},
            "at most 2 classes cannot hold 9 classes in 3 clusters; allowed: at least 3",
        ),
        ({"max_size": 0}, "at most 0 classes cannot hold 9 classes; allowed: at least 1"),
        ({"n_clusters": 10}, "cannot make 10 clusters of 9 classes; allowed: 1 to 9"),
    ],
)
def test_caps_that_cannot_hold_all_are_named(limits: dict[str, int], message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        balanced_partition(np.random.default_rng(0).normal(size=(9, 4)), **limits)
    with pytest.raises(PartitionError, match=message):
        confusion_partition(np.ones((9, 9)), **limits)
