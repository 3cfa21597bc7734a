import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from coterie.embedding import LabelEmbedding
from coterie.errors import PartitionError
from coterie.partition import Partition, spectral_embedding, spectral_partition

assignments = arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 6))


def planted_similarity(n_clusters: int, size: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_clusters, 32))
    truth = np.repeat(np.arange(n_clusters), size)
    vectors = centres[truth] + noise * rng.normal(size=(len(truth), 32))
    return LabelEmbedding(vectors).similarity_CC(), truth


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


def test_overlapping_clusters_are_a_partition_value_too() -> None:
    cover = Partition(np.array([[True, True, False], [False, True, True]]))
    assert cover.packed_class_M.tolist() == [0, 1, 1, 2]
    assert cover.mass_NS(np.array([[0.2, 0.3, 0.5]])).round(6).tolist() == [[0.5, 0.8]]


@pytest.mark.parametrize(("n_clusters", "size", "noise"), [(3, 5, 0.1), (8, 12, 0.6), (9, 11, 0.8)])
def test_spectral_agrees_with_scikit_learn(n_clusters: int, size: int, noise: float) -> None:
    similarity_CC, truth = planted_similarity(n_clusters, size, noise, seed=1)
    ours = spectral_partition(similarity_CC, n_clusters).cluster_of_class_C
    theirs = SpectralClustering(n_clusters, affinity="precomputed", random_state=0).fit_predict(
        np.maximum(similarity_CC, 0)
    )
    assert adjusted_rand_score(ours, theirs) == 1.0
    assert adjusted_rand_score(ours, truth) > 0.95


def test_spectral_embedding_solves_the_generalised_eigenproblem() -> None:
    similarity_CC, _ = planted_similarity(4, 6, 0.5, seed=2)
    weight_CC = np.maximum(similarity_CC, 0)
    embedding_CS = spectral_embedding(weight_CC, 4)
    np.fill_diagonal(weight_CC, 0)
    degree_C = weight_CC.sum(1)
    walk_CC = weight_CC / degree_C[:, None]
    values = np.sort(np.linalg.eigvals(walk_CC).real)[::-1][:4]
    np.testing.assert_allclose(walk_CC @ embedding_CS, embedding_CS * values, atol=1e-10)


def test_the_same_seed_gives_the_same_partition() -> None:
    similarity_CC, _ = planted_similarity(6, 9, 1.5, seed=3)
    first, second = (spectral_partition(similarity_CC, 6, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.member_SC, second.member_SC)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 20), st.integers(0, 1000), st.data())
def test_every_number_of_clusters_gives_that_many(n_classes: int, seed: int, data: st.DataObject) -> None:
    n_clusters = data.draw(st.integers(1, n_classes))
    vectors = np.random.default_rng(seed).normal(size=(n_classes, 8))
    partition = spectral_partition(LabelEmbedding(vectors).similarity_CC(), n_clusters, seed)
    assert partition.n_clusters == n_clusters
    assert partition.n_classes == n_classes


@pytest.mark.parametrize("n_clusters", [-1, 0, 6])
def test_a_number_of_clusters_out_of_range_names_itself_and_the_range(n_clusters: int) -> None:
    with pytest.raises(PartitionError, match=rf"{n_clusters} clusters of 5 classes; allowed: 1 to 5"):
        spectral_partition(np.eye(5), n_clusters)


def test_similarities_that_are_none_are_refused() -> None:
    with pytest.raises(PartitionError, match="finite square"):
        spectral_partition(np.full((4, 4), np.nan), 2)
    with pytest.raises(PartitionError, match="symmetric"):
        spectral_partition(np.arange(16.0).reshape(4, 4), 2)


def test_a_partition_checks_itself() -> None:
    with pytest.raises(PartitionError, match=r"empty clusters: \[1\]"):
        Partition(np.array([[True, True], [False, False]]))
    with pytest.raises(PartitionError, match=r"classes in none: \[1\]"):
        Partition(np.array([[True, False]]))
    with pytest.raises(PartitionError, match="boolean"):
        Partition(np.ones((2, 2)))
    with pytest.raises(PartitionError, match="one cluster per class"):
        Partition.from_assignment([])
