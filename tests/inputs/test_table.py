import dataclasses
import datetime
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import InputError
from coterie.inputs import (
    Scale,
    TablePreprocessing,
)

TABLE = pa.table(
    {
        "size": [1.0, None, 3.0, 5.0],
        "count": [2**40, 2**40 + 1, 2**40 + 2, 2**40 + 3],
        "colour": ["red", "red", None, "blue"],
        "zip": [101, 101, 202, 202],
        "day": [datetime.date(2026, 1, 1), datetime.date(2026, 1, 2), None, datetime.date(2026, 1, 4)],
    }
)


def measured() -> TablePreprocessing:
    return TablePreprocessing.measure(TABLE, ["size", "count", "day"], ["colour", "zip"])


def test_columns_with_decimal_commas_are_read_so_in_every_file() -> None:
    train = pa.table({"size": ["1,5", "2.000,25", None], "count": ["1", "2.5", "3"]})
    preprocessing = TablePreprocessing.measure(train, ["size", "count"], [], ["size"])
    assert preprocessing.scale.mean[0] == (1.5 + 2000.25) / 2
    new = [pa.table({"size": ["1,5"], "count": ["2.5"]}), pa.table({"count": [2.5], "size": [1.5]})]
    texts = pa.concat_tables([preprocessing.as_texts(table) for table in new])
    rows = preprocessing(preprocessing.samples(texts).read(torch.arange(2)))
    np.testing.assert_array_equal(rows[0], rows[1])
    with pytest.raises(InputError, match=r"column 'count' must hold numbers: '2,5' in row 0 is no number"):
        preprocessing.samples(pa.table({"size": ["1"], "count": ["2,5"]}))
    with pytest.raises(InputError, match=r"column 'size' must hold numbers: '2\.000' is uncertain"):
        preprocessing.samples(pa.table({"size": ["2.000"], "count": ["2"]}))


def test_a_table_becomes_numbers_indicators_and_codes() -> None:
    preprocessing = measured()
    assert preprocessing.categories == (("red",), ("101", "202"))  # one row says blue: nothing can be learned of it
    inputs = preprocessing(preprocessing.samples(TABLE).read(torch.arange(4)))
    assert inputs.shape == (4, 3 + 3 + 2)
    size_N = np.array([1, 3, 3, 5.0])  # the missing one stands at the mean
    np.testing.assert_allclose(inputs[:, 0], (size_N - 3) / np.std([1, 3, 5]), atol=1e-6)
    # Large numbers that differ little are told apart: standardised before they become float32.
    np.testing.assert_allclose(inputs[:, 1], (np.arange(4) - 1.5) / np.std(np.arange(4)), atol=1e-6)
    np.testing.assert_allclose(inputs[[0, 1, 3], 2], (np.array([0, 1, 3]) - 4 / 3) / np.std([0, 1, 3]), atol=1e-6)
    assert inputs[:, 3:6].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert inputs[:, 6].tolist() == [2, 2, 0, 1]  # red, red, missing, unseen
    assert inputs[:, 7].tolist() == [2, 2, 3, 3]
    assert preprocessing.cardinalities == (3, 4)
    assert (
        preprocessing.samples(TABLE)
        .show(1)
        .startswith("size = missing, count = 1099511627777, day = 2026-01-02, colour = red")
    )


def test_a_table_comes_in_four_shapes_and_its_columns_in_any_order() -> None:
    preprocessing = measured()
    expected = preprocessing.samples(TABLE).read(torch.arange(4))
    columns = dict(reversed(TABLE.to_pydict().items()))
    rows = [{name: value for name, value in row.items() if value is not None} for row in TABLE.to_pylist()]
    for raw in (columns, rows, pd.DataFrame(columns), TABLE):
        torch.testing.assert_close(preprocessing.samples(raw).read(torch.arange(4)), expected, equal_nan=True)


def test_whole_floats_are_the_categories_that_integers_were() -> None:
    preprocessing = measured()
    floats = TABLE.set_column(3, "zip", pa.array([101.0, math.nan, 202.0, None]))
    assert preprocessing.samples(floats).read(torch.arange(4))[:, 4].tolist() == [2, 0, 3, 0]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"size": [1.0]}, "missing: count, day, colour, zip; there: size"),
        (
            {**{name: TABLE[name].to_pylist() for name in TABLE.column_names}, "size": ["a"] * 4},
            "'size' must hold numb",
        ),
        (
            {**{name: TABLE[name].to_pylist() for name in TABLE.column_names}, "size": [math.inf] * 4},
            "4 infinite value",
        ),
        ({name: [] for name in TABLE.column_names}, "got no row"),
        (
            {**{name: TABLE[name].to_pylist() for name in TABLE.column_names}, "size": [1.0, 2.0, 1e300, 2.0]},
            "column 'size' holds 1e[+]300 in row 2, which is too far",
        ),
        (TABLE.append_column("size", TABLE["size"]), "there more than once: size"),
        ({name: [10**400] for name in TABLE.column_names}, "got dict"),
        (None, "got NoneType"),
        ([1, 2], "got list"),
        ("size", "got str"),
    ],
)
def test_other_tables_are_refused(raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured().samples(raw)


CELLS = st.sampled_from(["007", "7", "7.0", "A1", "NA", "None", "True", "1e5", " x"]) | st.text("ab01. ", min_size=1)
NUMBERS = st.sampled_from(["1", "2.5", "NA", "1e3", "007", "True"])
ROWS = st.lists(st.tuples(NUMBERS, CELLS), min_size=2, max_size=8)


def of_cells(rows: list[tuple[str, str]]) -> pa.Table:
    return pa.table({"size": [row[0] for row in rows], "code": [row[1] for row in rows]})


@given(ROWS, ROWS, st.booleans())
def test_a_row_is_read_the_same_whatever_rows_are_beside_it(
    train: list[tuple[str, str]], rows: list[tuple[str, str]], verbatim: bool
) -> None:
    learned = TablePreprocessing.measure(of_cells([("1", "007"), ("3", "A1"), *train, *train]), ["size"], ["code"])
    preprocessing = dataclasses.replace(learned, verbatim=verbatim)
    together = preprocessing.samples(of_cells(rows)).read(torch.arange(len(rows)))
    alone = torch.cat([preprocessing.samples(of_cells([row])).read(torch.arange(1)) for row in rows])
    torch.testing.assert_close(together, alone, equal_nan=True)


def test_categories_keep_their_spelling() -> None:
    cells = ["007", "7", "NA", "7.0", "True"]
    preprocessing = TablePreprocessing.measure(pa.table({"code": cells * 2}), [], ["code"])
    assert preprocessing.categories == (tuple(sorted(cells)),)
    new = pa.table({"code": [*cells, "na", None, "07"]})
    assert preprocessing.samples(new).read(torch.arange(8))[:, 0].tolist() == [2, 3, 5, 4, 6, 1, 0, 1]


def test_a_run_of_before_reads_cells_as_it_did() -> None:
    preprocessing = TablePreprocessing((), Scale((), ()), ("code",), (("7", "A1", "true"),))
    new = pa.table({"code": ["007", "7.0", "A1", "True", "NA", None, "8"]})
    assert preprocessing.samples(new).read(torch.arange(7))[:, 0].tolist() == [2, 2, 3, 4, 0, 0, 1]


def test_what_a_float_is_called_does_not_depend_on_the_others() -> None:
    preprocessing = TablePreprocessing((), Scale((), ()), ("code",), (("1000000", "2.5"),), verbatim=True)
    for column in ([1e6], [1e6, 2.5], [1e6, math.nan]):
        assert preprocessing.samples({"code": column}).read(torch.arange(1)).item() == 2


def test_a_value_that_no_network_can_hold_is_named() -> None:
    preprocessing = TablePreprocessing.measure(pa.table({"size": [1.0, 2.0]}), ["size"], [])
    with pytest.raises(InputError, match=r"column 'size' holds 1e\+300 in row 1, which is too far from the training"):
        preprocessing.samples({"size": [1.0, 1e300]})
    with pytest.raises(InputError, match=r"column 'size' must hold numbers: 'large' in row 1 is no number"):
        preprocessing.samples({"size": ["1", "large"]})


def test_columns_that_are_there_twice_or_hold_no_cells_are_named() -> None:
    preprocessing = TablePreprocessing.measure(pa.table({"code": ["a", "a"]}), [], ["code"])
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["code", "code"])
    with pytest.raises(InputError, match="there more than once: code"):
        preprocessing.samples(twice)
    with pytest.raises(InputError, match="column 'code' must hold categories; it holds list"):
        preprocessing.samples({"code": [["a"]]})
