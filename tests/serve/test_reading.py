import json
from typing import Any

import pytest
import torch

from coterie.inputs import Scale, TablePreprocessing
from coterie.serve.reading import Limits, RefusedError, read_samples

TABLE = TablePreprocessing(("age",), Scale((0.0,), (1.0,)), ("town",), (("York", "Bath"),), verbatim=True)


def read(rows: Any) -> Any:
    return read_samples("application/json; charset=utf-8", json.dumps({"rows": rows}).encode(), TABLE, Limits(text=50))


def test_rows_with_numbers_texts_and_missing_cells() -> None:
    rows = [{"age": 3, "town": "Bath"}, {"town": None, "age": None, "more": "x"}]
    value_NF = read(rows).read(torch.arange(2))
    assert value_NF[0].tolist() == [3, 3]
    assert value_NF[1].isnan().tolist() == [True, False]
    assert read(rows[0]).read(torch.tensor([0])).tolist() == [[3, 3]]


@pytest.mark.parametrize(
    ("rows", "status", "said"),
    [
        (["rows.csv"], 422, "rows 0 is of the type str"),
        ("rows.csv", 422, "rows 0 is of the type str"),
        ([{"age": 1}], 422, "missing: town"),
        ([{"age": "old", "town": "York"}], 422, "age"),
        ([{"age": [1], "town": "York"}], 422, "column 'age' holds a list"),
        ([{"age": 10**400, "town": "York"}], 422, "age"),
        ([{"age": 1, "town": "x" * 51}], 413, "has 51 characters"),
    ],
)
def test_bad_rows_are_refused_in_a_sentence(rows: Any, status: int, said: str) -> None:
    with pytest.raises(RefusedError) as error:
        read(rows)
    assert (error.value.status, said in str(error.value)) == (status, True), str(error.value)
