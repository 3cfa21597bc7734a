"""What holds for every method, and each against an independent reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from coterie.errors import PartitionError
from coterie.partition import (
    METHODS,
    PartitionRequest,
    agglomerative_partition,
    balanced_partition,
    confusion_counts,
    confusion_partition,
    given_partition,
    kmeans_partition,
    leiden_partition,
    make_partition,
    random_partition,
    scalable_spectral_partition,
)
from coterie.partition.balanced import assign_capped
from coterie.partition.kmeans import centres, fill_empty, move_singly
from coterie.partition.vectors import unit_rows
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


def test_a_wish_checks_itself() -> None:
    with pytest.raises(PartitionError, match="unknown method 'magic'; allowed: spectral, kmeans"):
        PartitionRequest("magic", 3)
    with pytest.raises(PartitionError, match="takes no largest size"):
        PartitionRequest("spectral", 3, 10)
    with pytest.raises(PartitionError, match="needs a number of clusters"):
        PartitionRequest("kmeans")
    with pytest.raises(PartitionError, match="needs a run with validation logits"):
        make_partition(PartitionRequest("confusion", 3), np.eye(4))


def test_k_means_is_as_good_as_scikit_learns() -> None:
    vectors_CD, _ = planted_vectors(300, 10, 1.5)
    unit_CD = unit_rows(vectors_CD)
    ours = kmeans_partition(vectors_CD, 10).cluster_of_class_C
    theirs = KMeans(10, n_init=10, random_state=0).fit_predict(unit_CD)

    def fit(cluster_C: np.ndarray) -> float:
        return float((unit_CD * centres(unit_CD, cluster_C, 10)[cluster_C]).sum(axis=1).mean())

    assert fit(ours) > fit(theirs) - 0.005


def test_single_moves_only_ever_lengthen_the_clusters() -> None:
    vectors_CD, _ = planted_vectors(80, 6, 2.0, width=128)
    unit_CD = unit_rows(vectors_CD)
    before_C = np.arange(80) % 6

    def length(cluster_C: np.ndarray) -> float:
        return float(sum(np.linalg.norm(unit_CD[cluster_C == s].sum(axis=0)) for s in range(6)))

    after_C = move_singly(unit_CD, before_C, 6)
    assert length(after_C) > length(before_C)
    assert len(np.unique(after_C)) == 6
    for label in range(0, 80, 7):  # no single move is left that gains
        for other in range(6):
            moved = after_C.copy()
            moved[label] = other
            assert length(moved) <= length(after_C) + 1e-5


def test_empty_clusters_get_the_rows_that_fit_worst() -> None:
    filled = fill_empty(np.array([0, 0, 0, 2]), np.array([0.9, 0.1, 0.5, 0.0]), 4)
    assert filled.tolist() == [0, 1, 3, 2]


@pytest.mark.parametrize("linkage", ["average", "ward"])
def test_linkage_is_that_of_scikit_learn(linkage: str) -> None:
    vectors_CD, _ = planted_vectors(150, 8, 1.5)
    unit_CD = unit_rows(vectors_CD).astype(np.float64)
    metric = "cosine" if linkage == "average" else "euclidean"
    theirs = AgglomerativeClustering(8, linkage=linkage, metric=metric).fit_predict(unit_CD)
    ours = agglomerative_partition(vectors_CD, 8, linkage).cluster_of_class_C
    assert adjusted_rand_score(ours, theirs) == 1.0


@pytest.mark.parametrize("linkage", ["average", "ward"])
def test_linkage_along_the_graph_finds_the_clusters(linkage: str) -> None:
    vectors_CD, truth = planted_vectors(300, 8, 1.0)
    partition = agglomerative_partition(vectors_CD, 8, linkage, dense_up_to=10)
    assert adjusted_rand_score(partition.cluster_of_class_C, truth) > 0.97


@pytest.mark.parametrize("linkage", ["average", "ward"])
def test_linkage_beyond_memory_names_what_it_needs_and_what_scales(
    linkage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors_CD, _ = planted_vectors(300, 8, 1.0)
    monkeypatch.setattr("coterie.partition.agglomerative.machine_memory", lambda: 2**20)
    assert agglomerative_partition(vectors_CD[:200], 8, linkage).n_clusters == 8  # 0.3 MB of pairs
    with pytest.raises(PartitionError, match=rf"{linkage} needs about 0.0 GiB for 300 classes; this machine has 0.0"):
        agglomerative_partition(vectors_CD, 8, linkage, dense_up_to=10)
    monkeypatch.setattr("coterie.partition.agglomerative.machine_memory", lambda: 2**17)
    with pytest.raises(PartitionError, match="Methods for so many: spectral, kmeans, balanced"):
        agglomerative_partition(vectors_CD, 8, linkage)
    monkeypatch.setattr("coterie.partition.agglomerative.machine_memory", lambda: None)
    assert agglomerative_partition(vectors_CD, 8, linkage).n_clusters == 8


def test_leiden_chooses_the_number_itself() -> None:
    vectors_CD, truth = planted_vectors(400, 8, 0.8)
    assert adjusted_rand_score(leiden_partition(vectors_CD).cluster_of_class_C, truth) > 0.95


def test_leiden_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coterie.partition.leiden.find_spec", lambda name: None)
    with pytest.raises(PartitionError, match=r"pip install 'coterie\[partition\]'"):
        leiden_partition(np.eye(4), 2)


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


@pytest.mark.parametrize("method", ["spectral", "kmeans", "balanced", "ward"])
@pytest.mark.parametrize("n_classes", [120, 700])
def test_a_partition_does_not_depend_on_the_threads_of_the_blas(method: str, n_classes: int) -> None:
    # Without any structure, last bits decide.
    vectors_CD = np.random.default_rng(n_classes).normal(size=(n_classes, 256))
    found = []
    for n_threads in (1, 2, 3):
        with threadpool_limits(n_threads, user_api="blas"):
            found.append(make_partition(PartitionRequest(method, 9), vectors_CD).cluster_of_class_C.tolist())
    assert found[0] == found[1] == found[2]


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
