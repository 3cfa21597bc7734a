"""The nearest classes of each class in cosine: exact while that is the faster, in cells beyond.

The approximate index is an inverted file (Sivic and Zisserman 2003; Jégou et al. 2011): classes lie in cells around
k-means centres, and a class is compared with those of the cells nearest to it. It needs nothing but matrix products,
memory for the vectors and the answer, and stops between two products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coterie.arrays import FloatArray, IntArray
from coterie.partition.kmeans import assign, fit_centres
from coterie.partition.parallel import each_in_threads, in_threads
from coterie.partition.vectors import SHARE, blocks
from coterie.progress import Progress

# From here on cells are faster, on two cores at D = 256, but miss neighbours: 15 % of them at 30,000 classes
# (benchmarks/partition/switches.md).
EXACT_UP_TO = 30_000
# Large enough for a matrix product at full speed, small enough that most classes are never compared.
CLASSES_PER_CELL = 1000
# More cells find more of the neighbours, at a time that grows in proportion.
CELLS_ASKED = 16
# Classes searched at a time: their candidates, 16 x K cosines with indices, take 63 MB at K = 30.
QUERIES = 2**14
# At K = 30 these are 6,000 neighbours, so the share that was found is known to about a point.
RECALL_SAMPLE = 200
# Below every cosine: marks a class's cosine to itself, and places without a neighbour.
NO_COSINE = -2.0


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The K nearest classes of each class, itself left out, unordered: indices and cosines of shape (C, K).

    ``recall`` is the share of the true nearest that a sample of classes found; 1 where the search is exact.
    """

    index_CK: IntArray
    cosine_CK: FloatArray
    recall: float = 1.0


@dataclass(frozen=True, eq=False)
class Cells:
    """A coarse grouping of the classes, whose vectors must be sorted by it.

    ``start``: the first class of each cell, and C at the end.
    """

    centre_GD: FloatArray
    start: IntArray


def make_cells(unit_CD: FloatArray, seed: int, progress: Progress) -> tuple[Cells, IntArray]:
    """Cells of about a thousand classes, and the order that sorts the classes by cell."""
    n_cells = max(CELLS_ASKED, len(unit_CD) // CLASSES_PER_CELL)
    # Few rounds on a small sample: cells must be compact, and nothing is read from their exact bounds.
    centre_GD = fit_centres(unit_CD, n_cells, seed=seed, rounds=8, per_cluster=64, progress=progress, title="cells")
    cell_C, _ = assign(unit_CD, centre_GD)
    sizes = np.bincount(cell_C, minlength=n_cells)
    return Cells(centre_GD, np.concatenate([[0], np.cumsum(sizes)])), np.argsort(cell_C, kind="stable")


def exact_neighbours(unit_CD: FloatArray, n_neighbours: int, progress: Progress) -> Neighbours:
    """Every class compared with every other, a block of rows at a time on each core."""
    n_classes = len(unit_CD)
    index_CK = np.empty((n_classes, n_neighbours), dtype=np.int32)
    cosine_CK = np.empty((n_classes, n_neighbours), dtype=np.float32)
    steps = list(blocks(n_classes, n_classes, SHARE))
    progress.stage("neighbours", len(steps))

    def compare(rows: slice) -> None:
        cosine_BC = unit_CD[rows] @ unit_CD.T
        np.fill_diagonal(cosine_BC[:, rows], NO_COSINE)  # a class is not its own neighbour
        index_CK[rows] = top_k(cosine_BC, n_neighbours)
        cosine_CK[rows] = np.take_along_axis(cosine_BC, index_CK[rows], axis=1)

    for _ in in_threads(compare, steps):
        progress.advance(1)
    return Neighbours(index_CK, cosine_CK)


def cell_neighbours(unit_CD: FloatArray, cells: Cells, n_neighbours: int, progress: Progress) -> Neighbours:
    """Each class compared with those in the cells nearest to it.

    Args:
        unit_CD: sorted by cell.
        cells: of these classes.
        n_neighbours: K, far below the size of a cell.
        progress: progress callback.
    """
    n_classes = len(unit_CD)
    index_CK = np.empty((n_classes, n_neighbours), dtype=np.int32)
    cosine_CK = np.empty((n_classes, n_neighbours), dtype=np.float32)
    steps = [slice(start, min(start + QUERIES, n_classes)) for start in range(0, n_classes, QUERIES)]
    progress.stage("neighbours", len(steps))
    for rows in steps:
        index_CK[rows], cosine_CK[rows] = _search(unit_CD, cells, rows, n_neighbours)
        progress.advance(1)
    return Neighbours(index_CK, cosine_CK, _recall(unit_CD, index_CK))


def _search(unit_CD: FloatArray, cells: Cells, rows: slice, n_neighbours: int) -> tuple[IntArray, FloatArray]:
    """Neighbours of the classes in ``rows``: each cell is compared at once with all that ask for it."""
    n_queries, n_cells = rows.stop - rows.start, len(cells.centre_GD)
    n_asked = min(CELLS_ASKED, n_cells)
    asked_QA = top_k(unit_CD[rows] @ cells.centre_GD.T, n_asked)
    # Pairs of class and cell, sorted by cell: each cell is then one product with all classes that ask for it.
    order = np.argsort(asked_QA, axis=None, kind="stable")
    query_of_pair, slot_of_pair = np.divmod(order, n_asked)
    bounds = np.searchsorted(asked_QA.ravel()[order], np.arange(n_cells + 1))
    index_QAK = np.zeros((n_queries, n_asked, n_neighbours), dtype=np.int32)
    cosine_QAK = np.full((n_queries, n_asked, n_neighbours), NO_COSINE, dtype=np.float32)

    def compare(cell: int) -> None:
        query = query_of_pair[bounds[cell] : bounds[cell + 1]]
        slot = slot_of_pair[bounds[cell] : bounds[cell + 1]]
        first, stop = int(cells.start[cell]), int(cells.start[cell + 1])
        if len(query) == 0 or first == stop:
            return
        # Classes are sorted by cell, so those of a cell are a slice, which is not copied.
        cosine = unit_CD[rows.start + query] @ unit_CD[first:stop].T
        own = rows.start + query - first
        inside = (own >= 0) & (own < stop - first)
        cosine[np.flatnonzero(inside), own[inside]] = NO_COSINE
        # A small cell may hold fewer than K classes; its other places stay empty.
        k = min(n_neighbours, stop - first)
        best = top_k(cosine, k)
        index_QAK[query, slot, :k] = first + best
        cosine_QAK[query, slot, :k] = np.take_along_axis(cosine, best, axis=1)

    each_in_threads(compare, range(n_cells))
    # Every class lies in one cell, so none is found twice: the best of all cells are the K best.
    cosine_QM = cosine_QAK.reshape(n_queries, -1)
    best = np.argpartition(cosine_QM, -n_neighbours, axis=1)[:, -n_neighbours:]
    return np.take_along_axis(index_QAK.reshape(n_queries, -1), best, axis=1), np.take_along_axis(
        cosine_QM, best, axis=1
    )


def _recall(unit_CD: FloatArray, index_CK: IntArray) -> float:
    """Share of the true nearest classes that were found, over a sample of classes."""
    n_classes, n_neighbours = index_CK.shape
    # The seed is fixed, as the sample only measures: no partition depends on it.
    sample = np.random.default_rng(0).choice(n_classes, min(RECALL_SAMPLE, n_classes), replace=False)
    found = 0
    for part in np.array_split(sample, max(1, len(sample) * n_classes // 2**24)):
        cosine = unit_CD[part] @ unit_CD.T
        cosine[np.arange(len(part)), part] = NO_COSINE
        true = top_k(cosine, n_neighbours)
        found += sum(len(np.intersect1d(a, b)) for a, b in zip(true, index_CK[part], strict=True))
    return found / (len(sample) * n_neighbours)


def top_k(score_BC: FloatArray, k: int) -> IntArray:
    """Columns of the ``k`` highest scores of each row, unordered, of shape (B, k).

    Columns are dealt into groups. The k best columns lie in the k groups with the highest maxima, and finding these is
    far less work than a selection among all columns: 1.5 against 24 ns a score.
    """
    n_rows, n_columns = score_BC.shape
    # A selection among n / deal maxima, then one among k * deal columns: the two together are least at this deal.
    deal = int(np.sqrt(n_columns / max(k, 1)))
    if deal < 4:  # too few columns a group to save anything
        return np.argpartition(score_BC, n_columns - k, axis=1)[:, n_columns - k :]
    n_groups = -(-n_columns // deal)
    whole = (deal - 1) * n_groups  # the last deal does not reach every group
    maximum_BG = score_BC[:, :whole].reshape(n_rows, deal - 1, n_groups).max(axis=1)
    rest = n_columns - whole
    np.maximum(maximum_BG[:, :rest], score_BC[:, whole:], out=maximum_BG[:, :rest])
    group_BK = np.argpartition(maximum_BG, n_groups - k, axis=1)[:, n_groups - k :]
    column_BM = (group_BK[:, :, None] + n_groups * np.arange(deal)).reshape(n_rows, -1)
    outside = column_BM >= n_columns
    score_BM = np.take_along_axis(score_BC, np.where(outside, 0, column_BM), axis=1)
    score_BM[outside] = -np.inf
    best = np.argpartition(score_BM, score_BM.shape[1] - k, axis=1)[:, score_BM.shape[1] - k :]
    return np.take_along_axis(column_BM, best, axis=1)
