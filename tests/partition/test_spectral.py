import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from coterie.errors import PartitionError
from coterie.partition import scalable_spectral_partition, spectral_embedding, spectral_partition
from coterie.partition.embedding import LabelEmbedding
from coterie.partition.spectral import pivot_rows, spectral_family
from planted import Listener, planted_vectors


def planted_similarity(n_clusters: int, size: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_clusters, 32))
    truth = np.repeat(np.arange(n_clusters), size)
    vectors = centres[truth] + noise * rng.normal(size=(len(truth), 32))
    return LabelEmbedding(vectors).similarity_CC(), truth


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


@pytest.mark.parametrize(("n_classes", "n_clusters", "noise"), [(600, 20, 1.5), (1500, 12, 2.0)])
def test_the_sparse_route_finds_what_the_dense_one_finds(n_classes: int, n_clusters: int, noise: float) -> None:
    vectors_CD, truth = planted_vectors(n_classes, n_clusters, noise, width=128)
    dense, sparse = (
        scalable_spectral_partition(vectors_CD, n_clusters, route=route).cluster_of_class_C
        for route in ("dense", "sparse")
    )
    assert adjusted_rand_score(dense, truth) > 0.97
    assert adjusted_rand_score(sparse, truth) > 0.98 * adjusted_rand_score(dense, truth)


def test_one_row_of_each_direction_is_where_k_means_starts() -> None:
    truth = np.random.default_rng(0).permutation(np.repeat(np.arange(7), 20))
    row_CS = np.eye(7, dtype=np.float32)[truth]
    assert sorted(truth[pivot_rows(row_CS, 7, 0)].tolist()) == list(range(7))


def test_the_sparse_route_repeats_itself_and_tells_how_it_goes() -> None:
    vectors_CD, _ = planted_vectors(500, 10, 2.0)
    listener = Listener()
    first = scalable_spectral_partition(vectors_CD, 10, 3, route="sparse", progress=listener)
    second = scalable_spectral_partition(vectors_CD, 10, 3, route="sparse")
    np.testing.assert_array_equal(first.cluster_of_class_C, second.cluster_of_class_C)
    assert listener.titles == ["neighbours", "eigenvectors", "starts", "k-means"]
    assert all(done == steps for done, steps in listener.steps)


def test_a_family_of_partitions_is_that_of_each_number() -> None:
    vectors_CD, truth = planted_vectors(2500, 12, 1.0)
    family = spectral_family(vectors_CD, 20)
    assert adjusted_rand_score(family(12).cluster_of_class_C, truth) > 0.97
    assert [family(s).n_clusters for s in (1, 5, 20)] == [1, 5, 20]
    with pytest.raises(PartitionError, match="cannot make 21 clusters"):
        family(21)
