import json
from typing import Any

import pytest
import torch

from coterie.inputs import NGramPreprocessing, Samples, Scale, TablePreprocessing
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


TEXTS = NGramPreprocessing(buckets=64, longest=50)


def read_texts(texts: Any, columns: tuple[str, ...] = ("subject", "body")) -> Samples:
    body = json.dumps({"texts": texts}).encode()
    return read_samples("application/json", body, TEXTS, Limits(text=20), columns)


def test_texts_of_several_columns_may_be_objects_of_these() -> None:
    found = read_texts([{"body": "it broke", "subject": "help"}, {"subject": None, "body": "it"}, "help\nit broke"])
    expected = TEXTS.samples(["help\nit broke", "it", "help\nit broke"])
    assert torch.equal(found.read(torch.arange(3)), expected.read(torch.arange(3)))
    alone = read_texts({"body": "it broke"}).read(torch.tensor([0]))
    assert torch.equal(alone, TEXTS.samples(["it broke"]).read(torch.tensor([0])))


@pytest.mark.parametrize(
    ("texts", "columns", "status", "said"),
    [
        ([{"body": "a", "title": "b"}], ("subject", "body"), 422, "'title' is none of the texts 'subject', 'body'"),
        ([{"body": 3}], ("subject", "body"), 422, "'body' is none of the texts"),
        ([{"body": "x" * 15, "subject": "y" * 6}], ("subject", "body"), 413, "texts 0 has 22 characters"),
        ([{}], ("subject", "body"), 422, "empty"),
        ([{"body": "a"}], ("body",), 422, "number 0 is {'body': 'a'}"),
        ([{"body": "a"}], (), 422, "number 0 is {'body': 'a'}"),
    ],
)
def test_bad_objects_of_texts_are_refused_in_a_sentence(
    texts: Any, columns: tuple[str, ...], status: int, said: str
) -> None:
    with pytest.raises(RefusedError) as error:
        read_texts(texts, columns)
    assert (error.value.status, said in str(error.value)) == (status, True), str(error.value)
