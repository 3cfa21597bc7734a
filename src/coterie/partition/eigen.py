"""Leading eigenvectors of a large sparse symmetric matrix, to the accuracy that clustering needs.

Subspace iteration with a Chebyshev filter (Rutishauser 1969; Zhou, Saad, Tiago and Chelikowsky 2006): a block of
vectors is multiplied by a polynomial of the matrix that is large above the wanted eigenvalues and small below, then
made orthonormal and rotated to the eigenvectors it holds. All work is products of matrices, in chunks of columns, so
memory is one block of C x S floats and an interrupt is answered between two chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array

from coterie.arrays import FloatArray
from coterie.partition.parallel import each_in_threads, in_threads, one_blas_thread, spans
from coterie.partition.vectors import SHARE, blocks
from coterie.progress import Progress
from coterie.system.load import n_cores

# Bounded, since a graph without clear clusters has no gap between eigenvalues and would never settle.
ROUNDS = 12
DEGREE = 8
# The first cut is 0, at which degree 8 would magnify the highest eigenvalue, 1, by 665,857: near what float32 can hold
# beside the unwanted ones. Degree 4 magnifies it by 577.
FIRST_DEGREE = 4
# The largest change of a wanted eigenvalue in the last round. Clusters are read from the directions of rows, which no
# longer change then.
TOLERANCE = 2e-3
# The filter holds a few copies of so many columns, not of the whole block, and Ctrl-C is answered between two chunks.
COLUMNS = 64
# One pass leaves errors of about float32's precision over this ratio, 1e-5; below it a second pass is needed.
WELL_CONDITIONED = 1e-2
# Entries of the matrix, those of about 3,000 classes: below, threads take longer to start than to multiply.
ONE_THREAD_UP_TO = 2**17


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """The highest eigenvalues, descending, with their vectors as columns of (C, S); ``converged``: within tolerance."""

    value_S: FloatArray
    vector_CS: FloatArray
    converged: bool


@one_blas_thread()
def leading_eigenvectors(matrix_CC: csr_array, n_vectors: int, seed: int, progress: Progress) -> Eigenpairs:
    """The eigenvectors of the ``n_vectors`` highest eigenvalues of a symmetric matrix with spectrum in [-1, 1].

    Args:
        matrix_CC: float32 CSR of shape (C, C).
        n_vectors: S, well below C.
        seed: of the first block.
        progress: progress callback.
    """
    n_rows = matrix_CC.shape[0]
    # Spare vectors: an eigenvalue settles faster the further it lies from the first one outside the block.
    width = min(n_rows, n_vectors + max(8, n_vectors // 10))
    product = _Product(matrix_CC)
    rng = np.random.default_rng(seed)
    block_CW = np.empty((n_rows, width), dtype=np.float32)
    for rows in blocks(n_rows, width):
        block_CW[rows] = rng.standard_normal((rows.stop - rows.start, width), dtype=np.float32)
    before_W: FloatArray = np.full(width, np.inf)
    value_W: FloatArray = np.zeros(width)
    cut, converged = 0.0, False
    chunks = [slice(start, min(start + COLUMNS, width)) for start in range(0, width, COLUMNS)]
    progress.stage("eigenvectors", ROUNDS * len(chunks))
    for done in range(ROUNDS):
        degree = DEGREE if done else FIRST_DEGREE
        for columns in chunks:
            # A copy with contiguous rows, as the sparse product reads rows.
            block_CW[:, columns] = _filter(product, np.ascontiguousarray(block_CW[:, columns]), degree, cut)
            progress.advance(1)
        if _orthonormalise(block_CW) < WELL_CONDITIONED:
            _orthonormalise(block_CW)
        value_W = _rotate(block_CW, product, chunks)
        # Below the block's lowest value nothing is wanted, and clusters never show in negative eigenvalues. Where all
        # are near 1, the filter keeps room to grow in.
        cut = float(np.clip(value_W[-1], 0.0, 0.98))
        # The spare vectors need not settle.
        converged = float(np.abs(value_W - before_W)[:n_vectors].max()) < TOLERANCE
        if converged:
            progress.advance((ROUNDS - 1 - done) * len(chunks))
            break
        before_W = value_W
    return Eigenpairs(value_W[:n_vectors], block_CW[:, :n_vectors], converged)


class _Product:
    """A sparse matrix times a dense block, its rows shared out to threads."""

    def __init__(self, matrix_CC: csr_array) -> None:
        self.shape = matrix_CC.shape
        # More parts than threads, so that rows with many entries do not leave a thread idle.
        self.spans = spans(self.shape[0], 4 * n_cores() if matrix_CC.nnz > ONE_THREAD_UP_TO else 1)
        start = matrix_CC.indptr
        self.parts = []
        for rows in self.spans:
            first, stop = start[rows.start], start[rows.stop]
            shape = (rows.stop - rows.start, self.shape[1])
            part = (
                matrix_CC.data[first:stop],
                matrix_CC.indices[first:stop],
                start[rows.start : rows.stop + 1] - first,
            )
            self.parts.append(csr_array(part, shape=shape))

    def __call__(
        self, block_CB: FloatArray, scale: float = 1.0, shift: float = 0.0, less_CB: FloatArray | None = None
    ) -> FloatArray:
        """``scale * (matrix @ block - shift * block) - less``, of the block's shape."""
        result_CB = np.empty_like(block_CB)

        def multiply(part: int) -> None:
            rows = self.spans[part]
            value_RB = self.parts[part] @ block_CB
            if shift:
                value_RB -= np.float32(shift) * block_CB[rows]
            if scale != 1.0:
                value_RB *= np.float32(scale)
            if less_CB is not None:
                value_RB -= less_CB[rows]
            result_CB[rows] = value_RB

        each_in_threads(multiply, range(len(self.parts)))
        return result_CB


def _filter(product: _Product, block_CB: FloatArray, degree: int, cut: float) -> FloatArray:
    """The Chebyshev polynomial that is within [-1, 1] on [-1, ``cut``] and grows fast above."""
    half, centre = (cut + 1) / 2, (cut - 1) / 2
    # The recurrence T_k+1 = 2 x T_k - T_k-1 needs the last two terms only, and no coefficient that could overflow.
    before_CB, now_CB = block_CB, product(block_CB, 1 / half, centre)
    for _ in range(degree - 1):
        before_CB, now_CB = now_CB, product(now_CB, 2 / half, centre, before_CB)
    return now_CB


def _orthonormalise(block_CW: FloatArray) -> float:
    """Make the columns orthonormal in place, by the eigenvectors of the Gram matrix (Stathopoulos and Wu 2002).

    Returns:
        How independent the columns were, from 0 to 1; where that is little, a second call is needed.
    """
    # Matrix products over blocks of rows, which run in threads; a QR would go column by column.
    gram_WW = _gram(block_CW, block_CW)
    # The filter leaves lengths that differ by orders of magnitude, which would hide how independent directions are.
    scale_W = 1.0 / np.sqrt(np.maximum(np.diag(gram_WW), 1e-30))
    values, vectors_WW = eigh(gram_WW * np.outer(scale_W, scale_W), driver="evd")
    independence = max(float(values[0] / values[-1]), 0.0)
    values = np.maximum(values, 1e-6 * values[-1])  # below lies rounding
    _multiply(block_CW, scale_W[:, None] * vectors_WW / np.sqrt(values))
    return independence


def _rotate(block_CW: FloatArray, product: _Product, chunks: list[slice]) -> FloatArray:
    """Turn an orthonormal block to the eigenvectors it holds (Rayleigh-Ritz); their values, descending."""
    width = block_CW.shape[1]
    projected_WW = np.empty((width, width))
    for columns in chunks:
        projected_WW[:, columns] = _gram(block_CW, product(np.ascontiguousarray(block_CW[:, columns])))
    # Rounding makes it slightly unsymmetric, and eigh reads one triangle only.
    values, vectors_WW = eigh((projected_WW + projected_WW.T) / 2, driver="evd")
    _multiply(block_CW, vectors_WW[:, ::-1])
    return values[::-1]


def _gram(left_CA: FloatArray, right_CB: FloatArray) -> FloatArray:
    """``left.T @ right``, summed over blocks of rows in float64."""
    total_AB = np.zeros((left_CA.shape[1], right_CB.shape[1]))
    # The parts come back in the order of the rows, so the sum is the same with any number of threads; in float64, as a
    # float32 sum over a million rows loses the digits that orthogonality needs.
    shares = blocks(len(left_CA), left_CA.shape[1], SHARE)
    for part_AB in in_threads(lambda rows: left_CA[rows].T @ right_CB[rows], shares):
        total_AB += part_AB
    return total_AB


def _multiply(block_CW: FloatArray, factor_WW: FloatArray) -> None:
    """``block @ factor`` in place, a block of rows at a time."""
    factor_WW = factor_WW.astype(np.float32)

    def multiply(rows: slice) -> None:
        block_CW[rows] = block_CW[rows] @ factor_WW

    each_in_threads(multiply, blocks(len(block_CW), block_CW.shape[1], SHARE))
