"""What holds for every method; each has its own test file too."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from coterie.errors import PartitionError
from coterie.partition import METHODS, PartitionRequest, make_partition
from planted import planted_vectors

BY_VECTORS = [method for method in METHODS if method not in ("confusion", "given")]


@pytest.mark.parametrize("method", [method for method in METHODS if method != "given"])
def test_every_method_gives_as_many_clusters_as_asked(method: str) -> None:
    rng = np.random.default_rng(0)
    for n_classes, n_clusters in ((2, 1), (2, 2), (5, 5), (7, 3), (40, 11), (40, 39)):
        vectors_CD = rng.normal(size=(n_classes, 6))
        confusion_CC = rng.integers(0, 3, size=(n_classes, n_classes))
        partition = make_partition(PartitionRequest(method, n_clusters), vectors_CD, confusion_CC)
        assert (partition.n_clusters, partition.n_classes) == (n_clusters, n_classes)


@pytest.mark.parametrize("method", [method for method in BY_VECTORS if method != "random"])
def test_every_method_finds_clear_clusters(method: str) -> None:
    vectors_CD, truth = planted_vectors(120, 6, 0.5)
    limits = {"max_size": int(np.bincount(truth).max())} if method == "balanced" else {}
    partition = make_partition(PartitionRequest(method, 6, **limits), vectors_CD)
    assert adjusted_rand_score(partition.cluster_of_class_C, truth) == 1.0


@pytest.mark.parametrize("method", BY_VECTORS)
def test_the_same_seed_gives_the_same_partition(method: str) -> None:
    vectors_CD, _ = planted_vectors(80, 6, 2.0)
    first, second = (make_partition(PartitionRequest(method, 6, seed=4), vectors_CD) for _ in range(2))
    np.testing.assert_array_equal(first.cluster_of_class_C, second.cluster_of_class_C)


@pytest.mark.parametrize("method", ["kmeans", "average", "ward", "spectral"])
@pytest.mark.parametrize("kind", ["f16", "fortran", "strided", "int", "scaled"])
def test_layout_type_and_length_of_the_vectors_do_not_matter(method: str, kind: str) -> None:
    vectors_CD, truth = planted_vectors(60, 4, 0.4)
    wide = np.zeros((120, 128))
    wide[::2, ::2] = vectors_CD
    given = {
        "f16": vectors_CD.astype(np.float16),
        "fortran": np.asfortranarray(vectors_CD),
        "strided": wide[::2, ::2],
        "int": (100 * vectors_CD).astype(np.int32),
        "scaled": vectors_CD * np.geomspace(1e-200, 1e200, 60)[:, None],
    }[kind]
    assert adjusted_rand_score(make_partition(PartitionRequest(method, 4), given).cluster_of_class_C, truth) == 1.0


@pytest.mark.parametrize("method", BY_VECTORS)
def test_bad_vectors_and_numbers_are_named(method: str) -> None:
    good = np.random.default_rng(0).normal(size=(8, 4))
    for value in (np.nan, np.inf):
        bad = good.copy()
        bad[3, 1] = value
        with pytest.raises(PartitionError, match=r"classes \[3\] are not finite"):
            make_partition(PartitionRequest(method, 2), bad)
    untrained = good.copy()
    untrained[5] = 0
    with pytest.raises(PartitionError, match=r"classes \[5\] are zero"):
        make_partition(PartitionRequest(method, 2), untrained)
    for n_clusters in (0, 9, -3):
        with pytest.raises(PartitionError, match=rf"{n_clusters} clusters of 8 classes; allowed: 1 to 8"):
            make_partition(PartitionRequest(method, n_clusters), good)
    twins = np.repeat(good[:2], 4, axis=0) * np.arange(1, 9)[:, None]
    with pytest.raises(PartitionError, match="only 2 distinct directions among 8"):
        make_partition(PartitionRequest(method, 3), twins)
    assert make_partition(PartitionRequest(method, 2), twins).n_clusters == 2
    with pytest.raises(PartitionError, match=r"C x D matrix; got shape \(4,\)"):
        make_partition(PartitionRequest(method, 1), np.ones(4))
    with pytest.raises(PartitionError, match="must be real numbers; got"):
        make_partition(PartitionRequest(method, 1), np.array([["a", "b"]]))


def test_one_class_is_one_cluster() -> None:
    for method in BY_VECTORS:
        assert make_partition(PartitionRequest(method, 1), np.ones((1, 3))).n_clusters == 1


def test_a_request_checks_itself() -> None:
    with pytest.raises(PartitionError, match="unknown method 'magic'; allowed: spectral, kmeans"):
        PartitionRequest("magic", 3)
    with pytest.raises(PartitionError, match="takes no largest size"):
        PartitionRequest("spectral", 3, 10)
    with pytest.raises(PartitionError, match="needs a number of clusters"):
        PartitionRequest("kmeans")
    with pytest.raises(PartitionError, match="needs a run with validation logits"):
        make_partition(PartitionRequest("confusion", 3), np.eye(4))
