"""Label vectors of any float type, also memory-mapped -> checked unit rows in float32, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from coterie.arrays import FloatArray, IntArray
from coterie.errors import PartitionError
from coterie.partition.value import check_n_clusters

# 64 MiB of float32: large enough for matrix products at full speed, small enough that Ctrl-C is answered at once.
BLOCK = 2**24
# 8 MiB of float32: small enough that some hundred thousand rows are work for many threads.
SHARE = 2**21


def blocks(n_rows: int, width: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover ``n_rows`` rows, so that a block of ``width`` columns has about ``size`` numbers."""
    step = max(1, size // max(width, 1))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def unit_rows(vectors_CD: ArrayLike) -> FloatArray:
    """Label vectors scaled to length 1: float32, contiguous, of shape (C, D).

    Args:
        vectors_CD: real numbers of any type and layout, bfloat16 of ``ml_dtypes`` and memory maps too.

    Raises:
        PartitionError: not a C x D matrix of numbers; a row that is not finite; a row of zeros, which has no direction.
    """
    given_CD = vectors_CD if isinstance(vectors_CD, np.ndarray) else np.asarray(vectors_CD)
    if given_CD.ndim != 2 or 0 in given_CD.shape:
        raise PartitionError(f"label embeddings must be a C x D matrix; got shape {given_CD.shape}")
    if given_CD.dtype.kind not in "fiu" and given_CD.dtype.name != "bfloat16":
        raise PartitionError(f"label embeddings must be real numbers; got {given_CD.dtype}")
    unit_CD = np.empty(given_CD.shape, dtype=np.float32)
    bad: list[int] = []
    zero: list[int] = []
    for rows in blocks(*given_CD.shape):
        block = given_CD[rows]
        # Half precision would lose digits in the division, and the least whole number has no absolute value.
        if block.dtype not in (np.float32, np.float64):
            block = block.astype(np.float32)
        # Scaled by the largest entry first: squares of very large or small numbers would leave the range of float32.
        largest = np.abs(block).max(axis=1, keepdims=True)
        bad += (rows.start + np.flatnonzero(~np.isfinite(largest))).tolist()
        zero += (rows.start + np.flatnonzero(largest == 0)).tolist()
        if not bad and not zero:
            scaled = (block / largest).astype(np.float32)
            unit_CD[rows] = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    if bad:
        raise PartitionError(f"label embeddings of classes {bad[:10]} are not finite ({len(bad)} of {len(given_CD)})")
    if zero:
        raise PartitionError(
            f"label embeddings of classes {zero[:10]} are zero ({len(zero)} of {len(given_CD)}): never trained? "
            "Leave these classes out"
        )
    return unit_CD


def clusterable_rows(vectors_CD: ArrayLike, n_clusters: int) -> FloatArray:
    """``unit_rows`` of vectors from which S clusters can be made.

    Raises:
        PartitionError: as ``unit_rows``; S below 1, above C, or above the number of distinct directions.
    """
    unit_CD = unit_rows(vectors_CD)
    check_n_clusters(n_clusters, len(unit_CD))
    check_distinct(unit_CD, n_clusters)
    return unit_CD


def count_distinct(unit_CD: FloatArray) -> int:
    """Number of directions that differ in their first six digits."""
    return len(np.unique(_fingerprints(unit_CD)))


def check_distinct(unit_CD: FloatArray, n_clusters: int) -> None:
    """Raise PartitionError where more clusters are asked for than there are distinct directions."""
    n_distinct = count_distinct(unit_CD) if n_clusters > 1 else 1
    if n_clusters > n_distinct:
        raise PartitionError(
            f"only {n_distinct} distinct directions among {len(unit_CD)} label embeddings; asked for {n_clusters} "
            f"clusters; allowed: 1 to {n_distinct}"
        )


def _fingerprints(unit_CD: FloatArray) -> IntArray:
    """One integer per row, equal for rows that are equal to six digits."""
    # Whole numbers, so that equal rows have equal sums in whatever order they are added; odd factors that fill 63 bits,
    # so that overflow wraps around and two different rows hardly ever meet.
    n_classes, width = unit_CD.shape
    factor_D = np.random.default_rng(0).integers(1, 2**62, size=width, dtype=np.int64) * 2 + 1
    fingerprint_C = np.empty(n_classes, dtype=np.int64)
    for rows in blocks(n_classes, width):
        fingerprint_C[rows] = np.rint(unit_CD[rows] * 2.0**20).astype(np.int64) @ factor_D
    return fingerprint_C
