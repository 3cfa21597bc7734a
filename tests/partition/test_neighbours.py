import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from coterie.partition.neighbours import cell_neighbours, exact_neighbours, make_cells, top_k
from coterie.partition.vectors import unit_rows
from coterie.progress import SILENT
from planted import planted_vectors


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 700), st.data())
def test_the_best_columns_are_those_of_a_full_sort(n_rows: int, n_columns: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, min(n_columns, 12)))
    score = np.random.default_rng(n_columns).permuted(np.tile(np.arange(n_columns), (n_rows, 1)), axis=1)
    found = top_k(score.astype(np.float32), k)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(np.argsort(score, axis=1)[:, -k:], axis=1))


def test_exact_neighbours_are_those_of_scikit_learn() -> None:
    unit_CD = unit_rows(planted_vectors(300, 5, 1.0)[0])
    found = exact_neighbours(unit_CD, 7, SILENT)
    distance, index = NearestNeighbors(n_neighbors=8, metric="cosine").fit(unit_CD).kneighbors(unit_CD)
    np.testing.assert_array_equal(np.sort(found.index_CK, axis=1), np.sort(index[:, 1:], axis=1))
    np.testing.assert_allclose(np.sort(found.cosine_CK, axis=1), np.sort(1 - distance[:, 1:], axis=1), atol=1e-5)


def test_cells_find_most_of_the_neighbours_and_say_how_many() -> None:
    unit_CD = unit_rows(planted_vectors(4000, 40, 0.7, width=32)[0])
    cells, order = make_cells(unit_CD, 0, SILENT)
    unit_CD = unit_CD[order]
    found, true = cell_neighbours(unit_CD, cells, 10, SILENT), exact_neighbours(unit_CD, 10, SILENT)
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found.index_CK, true.index_CK, strict=True)]
    assert np.mean(hits) / 10 > 0.9
    assert found.recall == pytest.approx(np.mean(hits) / 10, abs=0.03)
    assert not (found.index_CK == np.arange(4000)[:, None]).any()
    np.testing.assert_allclose(found.cosine_CK[5], unit_CD[found.index_CK[5]] @ unit_CD[5], atol=1e-5)
