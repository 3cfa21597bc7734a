import numpy as np
from sklearn.cluster import KMeans

from coterie.partition import kmeans_partition
from coterie.partition.kmeans import centres, fill_empty, move_singly
from coterie.partition.vectors import unit_rows
from planted import planted_vectors


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
