"""Rows of JSON lines files: texts stay texts, and what is no row is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coterie.data.reading import read_file
from coterie.errors import DataError


def read_lines(tmp_path: Path, content: bytes) -> list[dict]:
    (tmp_path / "a.jsonl").write_bytes(content)
    rows: list[dict] = read_file("jsonl", tmp_path / "a.jsonl").to_pylist()
    return rows


def test_json_lines_keep_texts_and_numbers(tmp_path: Path) -> None:
    assert read_lines(tmp_path, b'\xef\xbb\xbf{"a": "2020-01-01"}\n\n{"a": "007", "b": 1}\n') == [
        {"a": "2020-01-01", "b": None},
        {"a": "007", "b": 1},
    ]
    assert read_lines(tmp_path, b'[{"a": "x"}, {"b": 2}]') == [{"a": "x", "b": None}, {"a": None, "b": 2}]
    assert read_lines(tmp_path, json.dumps({"a": [[1.0]], "b": "[" * 200}).encode()) == [{"a": [[1.0]], "b": "[" * 200}]
    long = {"a": "long " * 2**20}
    assert read_lines(tmp_path, json.dumps(long).encode()) == [long]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"null\nnull\n", "line 1 must be an object in braces; it is null"),
        (b'{"a": 1}\n\n7\n', "line 3 must be an object in braces; it is 7"),
        (b'{"a": 1}\n' * 600_000 + b"null\n", "line 600001 must be an object"),
        (b"[1, 2]", "it holds a list, whose items must be objects"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'[{"a": "\\ud800"}]', "surrogate"),
        (b'{"a": "\xff"}', "UTF8"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "line 1 is nested more than 64 deep"),
        (b'{"a": ' + b"[" * 10**6, "recursion"),
        (b"[" * 10**6, "recursion"),
        (b'{"a": 1}\n{"a": "b"}', "changed from number to string"),
        (b'{"a": }', "JSON"),
        (b"", "Empty"),
        (b"{'a': 1}\n", "line 1 is no JSON; its texts are in single quotes, as Python prints them"),
        (b'{"a": 1}\n{"a": 2},\n', "line 2 is no JSON; it ends in a comma"),
        ('{"a": 1}\n'.encode("utf-16"), "it is in UTF-16; save it as UTF-8"),
    ],
)
def test_broken_json_lines_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"^cannot load jsonl:{tmp_path}/a.jsonl: .*{message}"):
        read_lines(tmp_path, content)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"version": 1, "data": [{"text": "a", "label": "b"}]}', "; save its list 'data' as a file of its own"),
        ('{"text": ["a", "b"], "label": ["c", "d"]}', "a line each or in a list$"),
        ('{"text": {"0": "a"}, "label": {"0": "c"}}', "a line each or in a list$"),
    ],
)
def test_one_object_that_holds_all_rows_is_no_row(tmp_path: Path, text: str, hint: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=f"it is one object; needed is one for each row.*{hint}"):
        read_file("jsonl", tmp_path / "a.json")


def test_one_row_of_a_vector_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"vector": [1, 2]}')
    assert read_file("jsonl", tmp_path / "a.jsonl").to_pylist() == [{"vector": [1, 2]}]
