"""Rows of files: csv cells are texts, and what is read does not depend on what else there is."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coterie.data import reading
from coterie.data.reading import as_dataset, read_file, read_files
from coterie.errors import DataError
from coterie.system import gzipped
from coterie.system.cache import cache_folder
from data_files import KINDS, TEXTS, load, pixels, png, write, write_parquet

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1)
ONE_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1))
@ONE_FILE
def test_cells_of_a_csv_file_come_back_as_they_were_written(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([("first", "second"), *rows])
    (tmp_path / "a.csv").write_text(written.getvalue(), encoding="utf-8", newline="")
    table = read_file("csv", tmp_path / "a.csv")
    assert list(zip(*(table[name].to_pylist() for name in ("first", "second")), strict=True)) == rows


def read_csv(tmp_path: Path, content: str | bytes) -> pa.Table:
    file = tmp_path / "a.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_file("csv", file)


@pytest.mark.parametrize(
    "cell", ["01234", "1e5", "NA", "None", "null", "nan", "True", "2020-01-01", " 7 ", "1.0", "0x1F"]
)
def test_a_cell_is_read_as_it_is_spelled_whatever_is_beside_it(tmp_path: Path, cell: str) -> None:
    assert read_csv(tmp_path, f"a,b\n{cell},1\n")["a"].to_pylist() == [cell]
    assert read_csv(tmp_path, f"a,b\n{cell},1\nA1,\n")["a"].to_pylist() == [cell, "A1"]


def test_only_an_empty_cell_is_missing(tmp_path: Path) -> None:
    assert read_csv(tmp_path, 'a,b\n,""\nNA,x\n').to_pydict() == {"a": [None, "NA"], "b": [None, "x"]}


def test_names_of_columns(tmp_path: Path) -> None:
    assert read_csv(tmp_path, "\ufeffa,b\n1,2\n").column_names == ["a", "b"]
    assert read_csv(tmp_path, "\n\n,a,a,a.1,a\n1,2,3,4,5\n").to_pylist() == [
        {"Unnamed: 0": "1", "a": "2", "a.1": "3", "a.1.1": "4", "a.2": "5"}
    ]
    assert read_csv(tmp_path, '"a\nb",c\n1,2\n').column_names == ["a\nb", "c"]
    assert read_csv(tmp_path, "a\u2028b,c\n1,2\n").column_names == ["a\u2028b", "c"]
    assert len(read_csv(tmp_path, "a,b\n")) == len(read_csv(tmp_path, "a,b")) == 0


def test_lines_end_where_they_end(tmp_path: Path) -> None:
    cells = ["one\u2028two", "three\x85four", "five\x0csix"]
    assert read_csv(tmp_path, "a,b\r\n" + "".join(f"{cell},1\r\n" for cell in cells))["a"].to_pylist() == cells


def test_a_cell_that_is_longer_than_a_block(tmp_path: Path) -> None:
    text = "long " * 2**20
    assert read_csv(tmp_path, f"a,b\n{text},2\n")["a"].to_pylist() == [text]
    assert read_csv(tmp_path, f'a,b\nx,1\n"{text}",2\ny,3\n')["a"].to_pylist() == ["x", text, "y"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"a,b\n1\n", r"names 2 column\(s\); a row holds 1 cell\(s\): 1"),
        (b"a,b\n1,2,3\n", r"names 2 column\(s\); a row holds 3 cell\(s\): 1,2,3"),
        (b"a,b\n1,\x81\n", "it is not in UTF-8"),
        (b"a;b\n1;2;3\n", r"names 2 column\(s\); a row holds 3 cell\(s\): 1;2;3"),
        (b"PK\x03\x04...", "save the sheet as csv"),
        (b'a,b\n1,"x\n2,y\n', "a quote that begins in row 1 is never closed"),
    ],
)
def test_broken_csv_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"^cannot load csv:{tmp_path}/a.csv: .*{message}"):
        read_csv(tmp_path, content)


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
    ],
)
def test_broken_json_lines_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"^cannot load jsonl:{tmp_path}/a.jsonl: .*{message}"):
        read_lines(tmp_path, content)


def test_compressed_files_are_those_that_they_unpack_to(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n007,x\n"))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": "007", "b": "x"}\n'))
    for kind in ("csv", "jsonl"):
        assert read_file(kind, tmp_path / f"a.{kind}.gz").to_pylist() == [{"a": "007", "b": "x"}]
    # Whatever it is called.
    (tmp_path / "a.csv").write_bytes((tmp_path / "a.csv.gz").read_bytes())
    assert read_file("csv", tmp_path / "a.csv").to_pylist() == [{"a": "007", "b": "x"}]
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n007,x\n")[:-9])
    with pytest.raises(DataError, match="cannot load csv:"):
        read_file("csv", tmp_path / "a.csv.gz")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_what_is_no_regular_file_is_named(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / f"train.{kind}")
    for place in (tmp_path, tmp_path / f"train.{kind}", "/dev/zero"):
        with pytest.raises(DataError, match="not a regular file"):
            load(f"{kind}:{place}")
    with pytest.raises(DataError, match=r"cannot read .*: File name too long"):
        load(f"{kind}:{tmp_path}/{'n' * 300}.{kind}")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_new_content_of_the_same_age_and_size_is_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"all.{kind}"
    source = write(file, {"text": TEXTS, "kind": KINDS})
    assert load(source, label="kind").labels.names == ("fruit", "tree")
    status = file.stat()
    write(file, {"text": TEXTS, "kind": [{"fruit": "bread", "tree": "rock"}[kind] for kind in KINDS]})
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load(source, label="kind").labels.names == ("bread", "rock")
    assert not [path for path in cache_folder().parent.rglob("*") if path.is_file()]


def test_large_parquet_files_are_unpacked_once_by_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [png(k) for k in range(10)]
    write_parquet(tmp_path / "a.parquet", ["a", "b"] * 5, images)
    in_memory = load(f"parquet:{tmp_path}")
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", 0)
    mapped = load(f"parquet:{tmp_path}")
    np.testing.assert_array_equal(pixels(mapped.train), pixels(in_memory.train))
    copies = cache_folder() / "tables"
    [copy] = copies.iterdir()
    age = (tmp_path / "a.parquet").stat()
    write_parquet(tmp_path / "a.parquet", ["c", "d"] * 5, images)
    os.utime(tmp_path / "a.parquet", ns=(age.st_atime_ns, age.st_mtime_ns))
    assert load(f"parquet:{tmp_path}").labels.names == ("c", "d")
    assert len(list(copies.iterdir())) == 2
    # One that no run has used for long goes when another is made.
    os.utime(copy, (0, 0))
    write_parquet(tmp_path / "a.parquet", ["e", "f"] * 5, images)
    load(f"parquet:{tmp_path}")
    assert copy not in copies.iterdir()
    assert len(list(copies.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "a.parquet", ["a", "b"] * 5)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot unpack .*a\.parquet in .*XDG_CACHE_HOME.*Not a directory"):
        load(f"parquet:{tmp_path}")


def test_files_of_one_split_follow_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    (tmp_path / "b.csv").write_text("a,b\nz,y\n")
    table, counts = read_files("csv", [tmp_path / "a.csv", tmp_path / "b.csv"])
    assert (table.to_dict(), counts) == ({"a": ["1", "z"], "b": ["x", "y"]}, [1, 1])
    (tmp_path / "b.csv").write_text("a,c\nz,y\n")
    with pytest.raises(DataError, match=r"cannot load csv:.*b\.csv: its columns are a, c; those of .*a\.csv are a, b"):
        read_files("csv", [tmp_path / "a.csv", tmp_path / "b.csv"])
    (tmp_path / "b.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="holds no row"):
        read_files("csv", [tmp_path / "b.csv"])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_that_unpacks_to_far_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(gzipped, "MOST_BYTES", 10**6)
    rows = {"csv": b"a,b\n" + b"x,y\n" * 10**6, "jsonl": b'{"a": 1}\n' * 10**6}
    (tmp_path / "a").write_bytes(gzip.compress(rows[kind]))
    with pytest.raises(DataError, match=rf"cannot load {kind}:.*a: [\d,]+ bytes unpack to more than 1,[\d,]+"):
        read_file(kind, tmp_path / "a")


def test_arrow_files_and_streams_are_read(tmp_path: Path) -> None:
    table = pa.table({"a": ["x", "y"], "b": pa.array(["u", "v"]).dictionary_encode()})
    for name, writer in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with writer(tmp_path / name, table.schema) as stream:
            stream.write_table(table)
        assert read_file("arrow", tmp_path / name).to_pydict() == {"a": ["x", "y"], "b": ["u", "v"]}
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=f"cannot load arrow:.*{name}: "):
            read_file("arrow", tmp_path / name)
    for content, message in ((b"FEA1 and more", "first version"), (b"", "cannot load arrow"), (b"text", "cannot load")):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_file("arrow", tmp_path / "other")


def test_categories_of_pandas_in_parquet_are_texts(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode()})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_files("parquet", [tmp_path / "a.parquet"])[0].features == datasets.Features(a=datasets.Value("string"))


@pytest.mark.parametrize("most_in_memory", [2**28, 0])
def test_nested_types_of_columns_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_in_memory: int
) -> None:
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", most_in_memory)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table = pa.table({"a": ["x"]}).replace_schema_metadata({"huggingface": "[" * 100_000})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="maximum recursion depth"):
        read_files("parquet", [tmp_path / "a.parquet"])


def test_a_quote_that_swallows_rows_up_to_the_next_is_named(tmp_path: Path) -> None:
    rows = [f"hello {k},a" if k not in (3, 7) else f'"hello {k},a' for k in range(12)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    with pytest.raises(DataError, match=r"a quote in line 5 is closed by one in line 9 that ends no cell"):
        read_file("csv", tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text('text,label\n"two\nlines of ""them""",a\n"three\nor\nmore",b\n')
    assert read_file("csv", tmp_path / "b.csv")["text"].to_pylist() == ['two\nlines of "them"', "three\nor\nmore"]


def test_rows_of_other_lengths_than_the_first_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# made by hand\ntext,label\nhello,a\n")
    with pytest.raises(DataError, match=r"its first row names 1 column\(s\); a row holds 2 cell\(s\): text,label"):
        read_file("csv", tmp_path / "a.csv")


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


def test_columns_of_types_that_cannot_be_used_are_named() -> None:
    table = pa.table({"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "label": ["a"]})
    with pytest.raises(DataError, match=r"columns that cannot be used: 'm' \(map<.*\); leave them out of the file"):
        as_dataset(table)
