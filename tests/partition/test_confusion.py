import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from coterie.errors import PartitionError
from coterie.partition import confusion_counts, confusion_partition


def slow_confusion(weight_CC: np.ndarray, n_clusters: int, max_size: int) -> list[set[int]]:
    """All pairs of clusters compared in every step."""
    clusters = [{k} for k in range(len(weight_CC))]
    while len(clusters) > n_clusters:
        ties = [
            (weight_CC[np.ix_(sorted(a), sorted(b))].sum(), i, j)
            for i, a in enumerate(clusters)
            for j, b in enumerate(clusters)
            if i < j and len(a) + len(b) <= max_size
        ]
        strength, i, j = max(ties, default=(0, 0, 0))
        if strength == 0:
            break
        clusters[i] |= clusters.pop(j)
    return clusters


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 14), st.integers(0, 500))
def test_confusion_joins_what_a_slow_search_joins(n_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    confusion_CC = rng.random((n_classes, n_classes)) * (rng.random((n_classes, n_classes)) < 0.4)
    n_clusters = int(rng.integers(1, n_classes))
    max_size = min(n_classes, 2 * -(-n_classes // n_clusters))
    slow = slow_confusion(confusion_CC + confusion_CC.T, n_clusters, max_size)
    partition = confusion_partition(confusion_CC, n_clusters)
    assert partition.n_clusters == n_clusters
    assert partition.size_S.max() <= max_size
    if len(slow) == n_clusters:
        ours = {frozenset(partition.classes(s).tolist()) for s in range(n_clusters)}
        assert ours == {frozenset(cluster) for cluster in slow}


def test_confusion_by_cap_alone_stops_where_nothing_is_confused() -> None:
    confusion_CC = np.zeros((6, 6))
    confusion_CC[0, 1] = confusion_CC[1, 2] = 5
    confusion_CC[3, 4] = 1
    partition = confusion_partition(confusion_CC, max_size=3)
    assert [partition.classes(s).tolist() for s in range(3)] == [[0, 1, 2], [3, 4], [5]]
    assert confusion_partition(confusion_CC, max_size=2).n_clusters == 4


@pytest.mark.parametrize("bad", [np.ones((2, 3)), -np.ones((2, 2)), np.full((2, 2), np.nan)])
def test_a_confusion_that_is_none_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(PartitionError, match="confusion matrix"):
        confusion_partition(bad, 1)
    with pytest.raises(PartitionError, match="need a number of clusters or a largest size"):
        confusion_partition(np.ones((2, 2)))


def test_confusion_is_counted_like_a_loop_counts() -> None:
    rng = np.random.default_rng(0)
    proba_NC, label_N = rng.dirichlet(np.ones(4), size=50), rng.integers(4, size=50)
    hard, soft = np.zeros((4, 4)), np.zeros((4, 4))
    for proba, label in zip(proba_NC, label_N, strict=True):
        hard[label, proba.argmax()] += 1
        soft[label] += proba
    np.testing.assert_array_equal(confusion_counts(proba_NC, label_N).toarray(), hard)
    np.testing.assert_allclose(confusion_counts(proba_NC, label_N, soft=True).toarray(), soft)
    assert isinstance(confusion_counts(proba_NC, label_N), csr_array)
