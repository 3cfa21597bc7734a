"""Classes and their nearest neighbours as a sparse weighted graph, in one piece."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from coterie.arrays import FloatArray, IntArray
from coterie.partition.kmeans import centres
from coterie.partition.neighbours import EXACT_UP_TO, Neighbours, cell_neighbours, exact_neighbours, make_cells
from coterie.partition.parallel import one_blas_thread
from coterie.partition.vectors import blocks
from coterie.progress import Progress

# Fewer neighbours leave clusters in pieces at weak signal; more make the graph, and all work on it, larger.
N_NEIGHBOURS = 30
# Neighbours with a cosine of 0 or less get this weight, so that they still tie the graph together.
LEAST_WEIGHT = 1e-4


@dataclass(frozen=True, eq=False)
class LabelGraph:
    """A symmetric graph of classes with cosines as weights: float32 CSR of shape (C, C), zero on the diagonal.

    Its rows are in the order ``class_C``, in which classes that lie near each other are near each other in memory too:
    row i is class ``class_C[i]``. ``n_components``: pieces that it fell into before they were linked. ``recall``: the
    share of true neighbours that the search found.
    """

    weight_CC: csr_array
    class_C: IntArray
    n_components: int
    recall: float

    def in_class_order(self, value_C: IntArray) -> IntArray:
        """Values of the graph's rows, put in the order of the classes."""
        ordered_C = np.empty_like(value_C)
        ordered_C[self.class_C] = value_C
        return ordered_C


@one_blas_thread()
def label_graph(
    unit_CD: FloatArray, n_neighbours: int, seed: int, progress: Progress, exact_up_to: int = EXACT_UP_TO
) -> LabelGraph:
    """The graph of nearest neighbours: an edge weighs the mean of the two directions, 0 where there is none.

    Args:
        unit_CD: rows of length 1.
        n_neighbours: K; at most C - 1 are used.
        seed: of the approximate index.
        progress: progress callback; told of a graph that falls into pieces.
        exact_up_to: number of classes beyond which neighbours are searched in cells.
    """
    n_classes = len(unit_CD)
    n_neighbours = min(n_neighbours, n_classes - 1)
    if n_classes <= exact_up_to:
        class_C: IntArray = np.arange(n_classes)
        found = exact_neighbours(unit_CD, n_neighbours, progress)
    else:
        cells, class_C = make_cells(unit_CD, seed, progress)
        # In the order of the cells a cell is a slice, and the eigensolver's products read memory that lies together.
        unit_CD = unit_CD[class_C]
        found = cell_neighbours(unit_CD, cells, n_neighbours, progress)
        progress.note(f"approximate neighbours: {found.recall:.0%} of the true ones found, on a sample")
    weight_CC = _symmetric(found)
    n_components, component_C = connected_components(weight_CC, directed=False)
    if n_components > 1:
        progress.note(
            f"the graph of nearest neighbours falls into {n_components} pieces; each is linked to its nearest class"
        )
        weight_CC = link_components(weight_CC, unit_CD, component_C, n_components)
    return LabelGraph(weight_CC, class_C, n_components, found.recall)


def _symmetric(found: Neighbours) -> csr_array:
    n_classes, n_neighbours = found.index_CK.shape
    start = np.arange(0, n_classes * n_neighbours + 1, n_neighbours, dtype=np.int64)
    # Half of each direction, and their sum: a class that is many others' neighbour, but not they its, is tied weakly.
    # The larger of the two would tie such hubs to all, and merges clusters at weak signal.
    weight_M = np.maximum(found.cosine_CK.ravel(), LEAST_WEIGHT) / 2
    directed_CC = csr_array((weight_M, found.index_CK.ravel(), start), shape=(n_classes, n_classes))
    return csr_array(directed_CC + directed_CC.T.tocsr())


def link_components(weight_CC: csr_array, unit_CD: FloatArray, component_C: IntArray, n_components: int) -> csr_array:
    """Join a graph's pieces: each piece but the largest gets an edge to the class outside that is nearest to its mean.

    Without links, eigenvectors could tell pieces apart, but not say which pieces belong together, and a partition into
    fewer clusters than pieces would be arbitrary.
    """
    shape = weight_CC.shape
    # Pieces may link to each other and still not to the largest one, so this repeats until one is left.
    while n_components > 1:
        outside_K = _nearest_outside(unit_CD, component_C, n_components)
        inside_K, cosine_K = _nearest_inside(unit_CD, component_C, outside_K)
        kept = np.flatnonzero(np.arange(n_components) != np.bincount(component_C).argmax())
        weight_K = np.maximum(cosine_K[kept], LEAST_WEIGHT).astype(np.float32)
        link_CC = coo_array((weight_K, (inside_K[kept], outside_K[kept])), shape=shape).tocsr()
        weight_CC = csr_array(weight_CC.maximum(link_CC.maximum(link_CC.T)))
        n_components, component_C = connected_components(weight_CC, directed=False)
    return weight_CC


def _nearest_outside(unit_CD: FloatArray, component_C: IntArray, n_components: int) -> IntArray:
    """For each piece the class of another piece that is nearest to its mean."""
    mean_KD = centres(unit_CD, component_C, n_components)
    outside_K = np.empty(n_components, dtype=np.int64)
    for pieces in blocks(n_components, len(unit_CD)):
        cosine_BC = mean_KD[pieces] @ unit_CD.T
        # A piece's own classes do not count.
        own = np.flatnonzero((component_C >= pieces.start) & (component_C < pieces.stop))
        cosine_BC[component_C[own] - pieces.start, own] = -np.inf
        outside_K[pieces] = cosine_BC.argmax(axis=1)
    return outside_K


def _nearest_inside(unit_CD: FloatArray, component_C: IntArray, outside_K: IntArray) -> tuple[IntArray, FloatArray]:
    """For each piece its class that is nearest to the class outside, and their cosine."""
    cosine_C = np.empty(len(unit_CD), dtype=np.float32)
    for rows in blocks(*unit_CD.shape):
        cosine_C[rows] = np.einsum("cd,cd->c", unit_CD[rows], unit_CD[outside_K[component_C[rows]]])
    # Sorted by piece, then by cosine: the last class of each piece is the nearest.
    order = np.lexsort((cosine_C, component_C))
    inside_K = order[np.cumsum(np.bincount(component_C, minlength=len(outside_K))) - 1]
    return inside_K, cosine_C[inside_K]


def normalised(weight_CC: csr_array) -> csr_array:
    """The graph with each weight over the root of the product of its ends' degrees: eigenvalues in [-1, 1]."""
    # Never 0: every class has neighbours, whose weights are positive.
    degree_C = np.asarray(weight_CC.sum(axis=1)).ravel()
    root_C = (1.0 / np.sqrt(degree_C)).astype(np.float32)
    # Only the values change: the indices are shared with the graph.
    row_M = np.repeat(np.arange(len(root_C), dtype=np.int32), np.diff(weight_CC.indptr))
    data_M = weight_CC.data * root_C[row_M] * root_C[weight_CC.indices]
    return csr_array((data_M, weight_CC.indices, weight_CC.indptr), shape=weight_CC.shape)
