import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_array
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from coterie.errors import PartitionError
from coterie.partition.merge import check_max_size, merge_greedily


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(0, 1000), st.data())
def test_the_mean_strength_is_scipys_average_linkage(n_classes: int, seed: int, data: st.DataObject) -> None:
    n_clusters = data.draw(st.integers(1, n_classes))
    similar_CC = np.random.default_rng(seed).random((n_classes, n_classes)) + 0.01
    similar_CC = (similar_CC + similar_CC.T) / 2
    np.fill_diagonal(similar_CC, 0)
    distance_CC = 2 - similar_CC
    np.fill_diagonal(distance_CC, 0)
    ours = merge_greedily(csr_array(similar_CC), n_clusters, None, "mean")
    theirs = fcluster(linkage(squareform(distance_CC), "average"), n_clusters, criterion="maxclust")
    assert adjusted_rand_score(ours, theirs) == 1.0


def test_the_sum_joins_large_clusters_that_the_mean_leaves_apart() -> None:
    weight_CC = np.zeros((5, 5))
    weight_CC[0, 1] = weight_CC[2, 3] = 10
    weight_CC[:2, 2:4] = 1  # four weak ties between two pairs
    weight_CC[0, 4] = 3
    weight_CC += weight_CC.T
    by_sum, by_mean = (merge_greedily(csr_array(weight_CC), 2, None, strength) for strength in ("sum", "mean"))
    assert adjusted_rand_score(by_sum, [0, 0, 0, 0, 1]) == 1.0
    assert adjusted_rand_score(by_mean, [0, 0, 1, 1, 0]) == 1.0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 1000))
def test_no_cluster_exceeds_the_limit_and_there_are_as_many_as_asked(n_classes: int, max_size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight_CC = rng.random((n_classes, n_classes)) * (rng.random((n_classes, n_classes)) < 0.2)
    n_clusters = int(rng.integers(-(-n_classes // max_size), n_classes + 1))
    cluster_C = merge_greedily(csr_array(weight_CC + weight_CC.T), n_clusters, max_size, "sum")
    sizes = np.unique(cluster_C, return_counts=True)[1]
    assert len(sizes) == n_clusters
    assert sizes.max() <= max_size


def test_without_a_number_merging_ends_where_ties_do() -> None:
    weight_CC = np.zeros((5, 5))
    weight_CC[0, 1] = weight_CC[1, 0] = weight_CC[3, 4] = weight_CC[4, 3] = 1
    cluster_C = merge_greedily(csr_array(weight_CC), None, None, "sum")
    assert adjusted_rand_score(cluster_C, [0, 0, 1, 2, 2]) == 1.0


def test_where_ties_run_out_the_smallest_clusters_are_joined() -> None:
    weight_CC = np.zeros((5, 5))
    weight_CC[0, 1] = weight_CC[1, 0] = 1
    cluster_C = merge_greedily(csr_array(weight_CC), 3, None, "sum")
    assert sorted(np.bincount(cluster_C)[np.unique(cluster_C)].tolist()) == [1, 2, 2]
    assert cluster_C[0] == cluster_C[1]


def test_a_limit_that_cannot_hold_all_is_named() -> None:
    check_max_size(3, 3, 9)
    with pytest.raises(
        PartitionError, match="at most 2 classes cannot hold 9 classes in 3 clusters; allowed: at least"
    ):
        check_max_size(2, 3, 9)
    with pytest.raises(PartitionError, match="allowed: at least 1"):
        check_max_size(0, None, 9)
