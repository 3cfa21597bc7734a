import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

from coterie.errors import PartitionError
from coterie.partition import Partition, kmeans_partition, random_partition
from coterie.partition.quality import (
    Quality,
    agreement,
    bootstrap_stability,
    confusion_kept,
    cosine_silhouette,
    router_accuracy,
    seed_stability,
)
from coterie.partition.vectors import unit_rows
from planted import planted_vectors


@settings(deadline=None)
@given(st.integers(4, 40), st.integers(2, 8), st.integers(0, 100))
def test_the_silhouette_is_that_of_scikit_learn(n_classes: int, n_clusters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit_CD = unit_rows(rng.normal(size=(n_classes, 5)))
    n_clusters = min(n_clusters, n_classes - 1)
    cluster_C = np.concatenate([np.arange(n_clusters), rng.integers(n_clusters, size=n_classes - n_clusters)])
    ours = cosine_silhouette(unit_CD, Partition.from_assignment(cluster_C))
    assert ours == pytest.approx(silhouette_score(unit_CD, cluster_C, metric="cosine"), abs=1e-5)


def test_one_cluster_has_no_silhouette() -> None:
    assert cosine_silhouette(np.eye(3, dtype=np.float32), Partition.from_assignment([0, 0, 0])) is None


def test_confusion_kept_counts_errors_within_clusters() -> None:
    confusion_CC = csr_array(np.array([[9, 3, 1], [0, 9, 0], [2, 0, 9]]))
    kept, chance = confusion_kept(confusion_CC, Partition.from_assignment([0, 0, 1]))
    assert kept == 3 / 6
    assert chance == 2 / 6
    assert confusion_kept(csr_array(np.eye(3)), Partition.from_assignment([0, 0, 1])) is None


def test_chance_is_what_random_clusters_keep() -> None:
    rng = np.random.default_rng(0)
    confusion_CC = csr_array(rng.integers(0, 9, size=(12, 12)))
    sizes = [5, 4, 3]
    chance = confusion_kept(confusion_CC, random_partition(sizes))[1]
    mean = np.mean([confusion_kept(confusion_CC, random_partition(sizes, seed))[0] for seed in range(400)])
    assert mean == pytest.approx(chance, abs=0.01)


def test_router_accuracy_and_agreement() -> None:
    partition = Partition.from_assignment([0, 0, 1])
    proba_NC = np.array([[0.3, 0.3, 0.4], [0.1, 0.2, 0.7]])
    assert router_accuracy(proba_NC, np.array([1, 1]), partition) == 0.5
    groups = ["a", "b", "b"]
    expected = adjusted_rand_score(groups, [0, 0, 1]), normalized_mutual_info_score(groups, [0, 0, 1])
    assert agreement(partition, groups) == pytest.approx(expected)
    with pytest.raises(PartitionError, match="2 groups given for 3 classes"):
        agreement(partition, ["a", "b"])


def test_clear_clusters_are_stable_and_noise_is_not() -> None:
    def figures(noise: float) -> tuple[float, float]:
        vectors_CD, _ = planted_vectors(60, 5, noise)
        partition = kmeans_partition(vectors_CD, 5)
        return (
            seed_stability(partition, lambda seed: kmeans_partition(vectors_CD, 5, seed), repeats=2),
            bootstrap_stability(partition, vectors_CD, lambda drawn: kmeans_partition(drawn, 5), repeats=2),
        )

    assert figures(0.3) == (1.0, 1.0)
    assert figures(30.0)[1] < 0.7


def test_quality_has_plain_values() -> None:
    quality = Quality.of(Partition.from_assignment([0, 0, 1]), silhouette=0.5)
    assert quality.to_values()["largest"] == 2
    assert quality.to_values()["rand_index"] is None
