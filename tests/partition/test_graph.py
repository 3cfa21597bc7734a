import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score

from coterie.partition import scalable_spectral_partition
from coterie.partition.graph import label_graph, link_components
from coterie.partition.vectors import unit_rows
from planted import Listener, planted_vectors


@pytest.mark.parametrize("exact_up_to", [10, 10_000])
def test_the_graph_is_symmetric_and_in_the_order_it_says(exact_up_to: int) -> None:
    vectors_CD, truth = planted_vectors(2500, 10, 0.5)
    listener = Listener()
    graph = label_graph(unit_rows(vectors_CD), 8, 0, listener, exact_up_to)
    assert abs(graph.weight_CC - graph.weight_CC.T).max() == 0
    assert graph.weight_CC.diagonal().sum() == 0
    rows, columns = graph.weight_CC.nonzero()
    same = truth[graph.class_C[rows]] == truth[graph.class_C[columns]]
    assert same.mean() > 0.95
    np.testing.assert_array_equal(graph.in_class_order(truth[graph.class_C]), truth)
    assert any("of the true ones" in note for note in listener.notes) == (exact_up_to == 10)


def test_a_graph_in_pieces_is_linked_and_that_is_said() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(6, 40) + 0.3 * np.eye(6, 40)[[1, 0, 3, 2, 5, 4]]  # three pairs of near clusters
    vectors_CD = np.repeat(centres, 15, axis=0) + 0.01 * rng.normal(size=(90, 40))
    listener = Listener()
    pairs = scalable_spectral_partition(vectors_CD, 3, route="sparse", n_neighbours=5, progress=listener)
    assert any("falls into 6 pieces" in note for note in listener.notes)
    assert adjusted_rand_score(pairs.cluster_of_class_C, np.repeat(np.arange(3), 30)) == 1.0
    pieces = scalable_spectral_partition(vectors_CD, 6, route="sparse", n_neighbours=5)
    assert adjusted_rand_score(pieces.cluster_of_class_C, np.repeat(np.arange(6), 15)) == 1.0


def test_linking_gives_a_graph_in_one_piece() -> None:
    unit_CD = unit_rows(np.random.default_rng(0).normal(size=(12, 5)))
    alone = csr_array((12, 12), dtype=np.float32)
    linked = link_components(alone, unit_CD, np.arange(12), 12)
    assert connected_components(linked)[0] == 1
    assert abs(linked - linked.T).max() == 0
