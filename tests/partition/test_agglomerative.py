import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from coterie.errors import PartitionError
from coterie.partition import agglomerative, agglomerative_partition
from coterie.partition.vectors import unit_rows
from planted import planted_vectors


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
    monkeypatch.setattr(agglomerative, "machine_memory", lambda: 2**20)
    assert agglomerative_partition(vectors_CD[:200], 8, linkage).n_clusters == 8  # 0.3 MB of pairs
    with pytest.raises(PartitionError, match=rf"{linkage} needs about 0.0 GiB for 300 classes; this machine has 0.0"):
        agglomerative_partition(vectors_CD, 8, linkage, dense_up_to=10)
    monkeypatch.setattr(agglomerative, "machine_memory", lambda: 2**17)
    with pytest.raises(PartitionError, match="Methods for so many: spectral, kmeans, balanced"):
        agglomerative_partition(vectors_CD, 8, linkage)
    monkeypatch.setattr(agglomerative, "machine_memory", lambda: None)
    assert agglomerative_partition(vectors_CD, 8, linkage).n_clusters == 8
