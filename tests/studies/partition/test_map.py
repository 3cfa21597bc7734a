import numpy as np
import pytest

from coterie.errors import PartitionError
from coterie.partition.vectors import unit_rows
from coterie.studies.partition import map as map_module
from coterie.studies.partition.map import choose_map, map_labels
from planted import planted_vectors


def test_the_map_suits_number_and_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_module, "find_spec", lambda name: None)
    assert [choose_map(n) for n in (1, 5, 6, 3000, 3001)] == ["pca", "pca", "tsne", "tsne", "pca"]
    with pytest.raises(PartitionError, match="needs umap-learn"):
        choose_map(100, "umap")
    monkeypatch.setattr(map_module, "find_spec", lambda name: name)
    assert [choose_map(n) for n in (5, 10, 100, 10_000, 10**6)] == ["pca", "tsne", "umap", "umap", "pca"]
    assert choose_map(100, "pca") == "pca"


@pytest.mark.parametrize("kind", ["tsne", "pca"])
def test_classes_of_a_cluster_lie_together(kind: str) -> None:
    vectors_CD, truth = planted_vectors(40, 3, 0.2)
    place_C2 = map_labels(unit_rows(vectors_CD), kind)
    centre_S2 = np.stack([place_C2[truth == s].mean(axis=0) for s in range(3)])
    nearest = ((place_C2[:, None] - centre_S2[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == truth).mean() > 0.95


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (4, 1)])
def test_few_classes_or_dimensions_have_a_map_too(shape: tuple[int, int]) -> None:
    assert map_labels(unit_rows(np.arange(1.0, 1 + np.prod(shape)).reshape(shape)), "pca").shape == (shape[0], 2)
