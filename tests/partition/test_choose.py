import numpy as np
import pytest

from coterie.errors import PartitionError
from coterie.partition import kmeans_partition, scalable_spectral_partition
from coterie.partition.choose import choose_n_clusters, eigengaps
from coterie.partition.vectors import unit_rows
from coterie.progress import SILENT
from planted import planted_vectors


@pytest.mark.parametrize(("n_classes", "n_clusters", "noise"), [(100, 8, 1.0), (400, 20, 1.0), (2500, 15, 1.0)])
def test_the_planted_number_of_clusters_is_chosen(n_classes: int, n_clusters: int, noise: float) -> None:
    vectors_CD, _ = planted_vectors(n_classes, n_clusters, noise)
    choice = choose_n_clusters(vectors_CD, lambda s: scalable_spectral_partition(vectors_CD, s))
    assert choice.chosen == n_clusters
    assert choice.criterion == "eigengap and silhouette"
    assert len(choice.n_clusters) == len(choice.eigengap) == len(choice.silhouette)
    assert choice.gain_forecast is None


def test_a_forecast_decides_where_there_is_one() -> None:
    vectors_CD, _ = planted_vectors(30, 5, 1.0)
    choice = choose_n_clusters(
        vectors_CD,
        lambda s: kmeans_partition(vectors_CD, s),
        lambda partition: -abs(partition.n_clusters - 3),
        candidates=(2, 3, 5),
    )
    assert (choice.chosen, choice.criterion, choice.gain_forecast) == (3, "gain forecast", (-1, 0, -2))


def test_candidates_out_of_range_are_named() -> None:
    vectors_CD = np.eye(5)
    with pytest.raises(PartitionError, match=r"cannot try \[1, 9\] clusters of 5 classes; allowed: 2 to 4"):
        choose_n_clusters(vectors_CD, lambda s: kmeans_partition(vectors_CD, s), candidates=(9, 1))
    with pytest.raises(PartitionError, match="allowed: at least 3"):
        choose_n_clusters(np.eye(2), lambda s: kmeans_partition(np.eye(2), s))


def test_eigengaps_of_separate_blocks() -> None:
    unit_CD = unit_rows(np.repeat(np.eye(4), 5, axis=0))
    gap_S = eigengaps(unit_CD, 8, 0, SILENT)
    assert gap_S.argmax() == 3
    np.testing.assert_allclose(gap_S[3], 1 + 1 / 4, atol=1e-6)  # each block has eigenvalues 1 and -1/(n - 1)


def test_no_more_clusters_are_tried_than_there_are_directions() -> None:
    vectors_CD = np.repeat(np.random.default_rng(0).normal(size=(4, 9)), 10, axis=0)
    choice = choose_n_clusters(vectors_CD, lambda s: scalable_spectral_partition(vectors_CD, s))
    assert choice.chosen == max(choice.n_clusters) == 4
    with pytest.raises(PartitionError, match="all 5 label embeddings are alike"):
        choose_n_clusters(np.ones((5, 2)), lambda s: scalable_spectral_partition(vectors_CD, s))
