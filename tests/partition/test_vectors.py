import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import normalize

from coterie.errors import PartitionError
from coterie.partition.vectors import blocks, check_distinct, clusterable_rows, count_distinct, unit_rows


@given(st.integers(0, 500), st.integers(0, 40), st.integers(1, 300))
def test_blocks_cover_every_row_once_and_are_no_larger_than_asked(n_rows: int, width: int, size: int) -> None:
    parts = list(blocks(n_rows, width, size))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(n_rows))
    assert all((part.stop - part.start) * width <= max(size, width) for part in parts)


def test_unit_rows_are_those_of_scikit_learn() -> None:
    vectors_CD = np.random.default_rng(0).normal(size=(30, 7))
    unit_CD = unit_rows(vectors_CD)
    assert unit_CD.dtype == np.float32
    np.testing.assert_allclose(unit_CD, normalize(vectors_CD), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_the_length_of_a_row_does_not_matter(scale: float) -> None:
    vectors_CD = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_allclose(unit_rows(scale * vectors_CD), unit_rows(vectors_CD), atol=1e-6)


def test_a_memory_map_in_half_precision_gives_the_same_rows(tmp_path) -> None:
    vectors_CD = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float16)
    np.save(tmp_path / "vectors.npy", vectors_CD)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    np.testing.assert_array_equal(unit_rows(mapped), unit_rows(vectors_CD.astype(np.float32)))


def test_directions_count_once_whatever_their_length() -> None:
    vectors_CD = np.repeat(np.random.default_rng(0).normal(size=(3, 5)), 4, axis=0) * np.arange(1, 13)[:, None]
    unit_CD = unit_rows(vectors_CD)
    assert count_distinct(unit_CD) == 3
    check_distinct(unit_CD, 3)
    assert len(clusterable_rows(vectors_CD, 3)) == 12
    with pytest.raises(PartitionError, match="only 3 distinct directions among 12"):
        clusterable_rows(vectors_CD, 4)
    # Opposite vectors have different directions.
    assert count_distinct(unit_rows(np.array([[1.0, 2.0], [-1.0, -2.0]]))) == 2


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(3), r"C x D matrix; got shape \(3,\)"),
        (np.ones((0, 3)), "C x D matrix"),
        (np.ones((2, 2), dtype=complex), "must be real numbers; got complex128"),
        (np.array([[1.0, 1.0], [np.nan, 1.0]]), r"classes \[1\] are not finite \(1 of 2\)"),
        (np.array([[1.0, 1.0], [0.0, 0.0]]), r"classes \[1\] are zero \(1 of 2\)"),
    ],
)
def test_vectors_that_cannot_be_clustered_are_named(vectors: np.ndarray, message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        unit_rows(vectors)
