from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.inputs.cells import meaning, number_of_before, parse_numbers


def column(*cells: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, pa.string())])


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2", None], "whole"),
        (["1", "NA", " 2 "], "whole"),
        (["1.5", "2", "1e5", ".5", "+3"], "number"),
        (["1.5", "nan", "inf"], "number"),
        (["007", "10"], "code"),
        (["0", "10", "0.5"], "number"),
        (["0", "10"], "whole"),
        (["True", "FALSE"], "truth"),
        (["True", "FALSE", None], "text"),
        (["True", "1"], "text"),
        (["1", "A1"], "text"),
        (["NA", "NA"], "text"),
        (["nan"], "text"),
        (["2020-01-01"], "text"),
        (["1_000"], "text"),
        (["0x10"], "text"),
        ([None, None], "nothing"),
        ([], "nothing"),
        (["1"] * 1500 + ["a"], "text"),
        (["True"] * 1500 + ["a"], "text"),
        (["NA"] * 1500 + ["1"], "whole"),
    ],
)
def test_what_a_column_means_is_decided_over_all_of_its_cells(cells: list[str | None], expected: str) -> None:
    assert meaning(column(*cells)) == expected


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["3,14", "-2", "1.234,5", "NA", None], "decimal"),
        (["1"] * 1500 + ["0,5"], "decimal"),
        (["3,14", "2.5"], "text"),
        (["3,14", "1,2,3"], "text"),
        (["3,14", "a"], "text"),
        (["1.5", "2"], "number"),
        (["1", "2"], "whole"),
        (["01", "2"], "code"),
    ],
)
def test_decimal_commas_where_they_are_looked_for(cells: list[str | None], expected: str) -> None:
    assert meaning(column(*cells), commas=True) == expected
    assert meaning(column(*cells)) == ("text" if expected == "decimal" else expected)


def test_numbers_with_decimal_commas() -> None:
    cells = column("3,14", " -1.234,5 ", "7", "0.125", "2,5e3", "NA", None)
    assert parse_numbers(cells, commas=True).to_pylist() == [3.14, -1234.5, 7, 0.125, 2500, None, None]
    with pytest.raises(ValueError, match=r"'1\.234' is uncertain where others have decimal commas"):
        parse_numbers(column("3,14", "1.234"), commas=True)
    with pytest.raises(ValueError, match="'3,14' in row 0 is no number"):
        parse_numbers(column("3,14"))


@given(st.lists(st.floats(allow_nan=False) | st.integers(-(2**60), 2**60)), st.data())
def test_numbers_are_read_as_python_reads_them(values: list[float], data: st.DataObject) -> None:
    cells = [data.draw(st.sampled_from(["{}", " {} ", "{} "])).format(value) for value in values]
    assert parse_numbers(column(*cells)).to_pylist() == [float(value) for value in values]


def test_words_for_missing_numbers_truths_and_dates() -> None:
    assert parse_numbers(column("1", "NA", None, "null", "nan", "True", "false")).to_pylist() == [1, *[None] * 4, 1, 0]
    assert parse_numbers(column("2020-01-01", None, "2020-01-01T00:00:01.5")).to_pylist() == [
        1577836800,
        None,
        1577836801,
    ]


@pytest.mark.parametrize("cell", ["A1", "", "1,5", "0x10", "1_0"])
def test_a_cell_that_is_no_number_is_named(cell: str) -> None:
    with pytest.raises(ValueError, match=rf"^{cell!r} in row 1 is no number$"):
        parse_numbers(column("1", cell, "x"))


@pytest.mark.parametrize(
    ("cell", "before"),
    [("007", "7"), ("1e3", "1000"), ("2.50", "2.5"), ("True", "true"), ("NA", None), ("A1", "A1"), (" 3", "3")],
)
def test_what_a_cell_was_read_as_before(cell: str, before: str | None) -> None:
    assert number_of_before(cell) == before


def test_numbers_are_those_of_an_independent_reader() -> None:
    values = np.random.default_rng(0).normal(size=500) * 10.0 ** np.random.default_rng(1).integers(-20, 20, 500)
    cells = [f"{value:.17g}" for value in values]
    expected = pd.to_numeric(pd.Series(cells)).to_numpy()
    np.testing.assert_allclose(parse_numbers(column(*cells)).to_numpy(), expected, rtol=1e-15)
