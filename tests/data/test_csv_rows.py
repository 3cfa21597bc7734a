"""Rows of csv files: cells are texts, and what is read does not depend on what else there is."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coterie.data.reading import read_file
from coterie.errors import DataError

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
        (b"a,b\n1\n", r"names 2 columns; a row holds 1 cell: 1"),
        (b"a,b\n1,2,3\n", r"names 2 columns; a row holds 3 cells: 1,2,3"),
        (b"a,b\n1,\x81\n", "it is not in UTF-8"),
        (b"a;b\n1;2;3\n", r"names 2 columns; a row holds 3 cells: 1;2;3"),
        (b"PK\x03\x04...", "save the sheet as csv"),
        (b'a,b\n1,"x\n2,y\n', "a quote that begins in row 1 is never closed"),
        (b'a\tb\n1\t2\n"x\ty\n3\t4\n', "a quote that begins in line 3 is never closed"),
    ],
)
def test_broken_csv_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"^cannot load csv:{tmp_path}/a.csv: .*{message}"):
        read_csv(tmp_path, content)


def test_a_quote_that_swallows_rows_up_to_the_next_is_named(tmp_path: Path) -> None:
    rows = [f"hello {k},a" if k not in (3, 7) else f'"hello {k},a' for k in range(12)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    with pytest.raises(DataError, match=r"a quote in line 5 is closed by one in line 9 that ends no cell"):
        read_file("csv", tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text('text,label\n"two\nlines of ""them""",a\n"three\nor\nmore",b\n')
    assert read_file("csv", tmp_path / "b.csv")["text"].to_pylist() == ['two\nlines of "them"', "three\nor\nmore"]


def test_rows_of_other_lengths_than_the_first_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# made by hand\ntext,label\nhello,a\n")
    with pytest.raises(DataError, match=r"its first row names 1 column; a row holds 2 cells: text,label"):
        read_file("csv", tmp_path / "a.csv")


def test_names_that_come_again_are_no_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 of its rows repeat the names of the columns.*the first is row 2;"):
        read_csv(tmp_path, "text,label\none,a\n,b\ntext,label\ntwo,label\n")
    assert len(read_csv(tmp_path, "text,label\ntext,b\ntwo,label\n")) == 2
    assert len(read_csv(tmp_path, "text\ntext\n")) == 1
