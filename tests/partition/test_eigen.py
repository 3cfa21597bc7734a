import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array
from scipy.sparse.linalg import eigsh

from coterie.partition.eigen import leading_eigenvectors
from coterie.partition.graph import label_graph, normalised
from coterie.partition.vectors import unit_rows
from coterie.progress import SILENT
from planted import planted_vectors


def test_eigenvectors_are_those_of_arpack() -> None:
    vectors_CD, _ = planted_vectors(800, 10, 1.0, width=64)
    matrix_CC = normalised(label_graph(unit_rows(vectors_CD), 20, 0, SILENT).weight_CC)
    found = leading_eigenvectors(matrix_CC, 10, 0, SILENT)
    values, vectors = eigsh(matrix_CC.astype(np.float64), 10, which="LA")
    assert found.converged
    np.testing.assert_allclose(found.value_S, values[::-1], atol=2e-3)
    # Of near-equal eigenvalues only the space that their vectors span is determined.
    overlap = np.linalg.svd(found.vector_CS.T @ vectors, compute_uv=False)
    assert overlap.min() > 0.99
    np.testing.assert_allclose(found.vector_CS.T @ found.vector_CS, np.eye(10), atol=1e-4)


@given(st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_eigenvectors_of_a_graph_without_clusters_are_orthonormal_too(seed: int) -> None:
    half_CC = random_array((300, 300), density=0.05, format="csr", dtype=np.float32, rng=seed)
    ring_CC = csr_array(np.roll(np.eye(300, dtype=np.float32), 1, axis=1))
    matrix_CC = normalised(csr_array(half_CC + half_CC.T + ring_CC + ring_CC.T))
    vector_CS = leading_eigenvectors(matrix_CC, 8, seed, SILENT).vector_CS
    np.testing.assert_allclose(vector_CS.T @ vector_CS, np.eye(8), atol=1e-3)
