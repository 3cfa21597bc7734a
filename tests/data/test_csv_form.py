"""How csv files are written: found where it is certain, asked for where it is not."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from coterie.data.csv_form import CsvForm, describe_forms
from coterie.data.reading import read_file
from coterie.data.tables import read_row_parts
from coterie.errors import DataError
from data_files import KINDS, TEXTS, labels_of, load

ROWS = [("text", "kind"), *((f"{text}, caf\u00e9; {len(text)}", kind) for text, kind in zip(TEXTS, KINDS, strict=True))]
RUSSIAN = "text,kind\n\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440,a\n"


def written(rows: list[tuple[str, ...]], separator: str = ",", lines: str = "\n") -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator, lineterminator=lines).writerows(rows)
    return file.getvalue()


def find(tmp_path: Path, content: str | bytes, name: str = "a.csv", **named: str) -> CsvForm:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return CsvForm.find(tmp_path / name, **named)


@pytest.mark.parametrize("lines", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "latin-1", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_cells_come_back_however_they_are_written(tmp_path: Path, separator: str, encoding: str, lines: str) -> None:
    (tmp_path / "a.csv").write_bytes(written(ROWS, separator, lines).encode(encoding))
    table = read_file("csv", tmp_path / "a.csv")
    assert [tuple(table.column_names), *zip(*table.to_pydict().values(), strict=True)] == ROWS


def test_what_was_found_is_said_with_its_options(tmp_path: Path) -> None:
    for separator, encoding, said in (
        (",", "utf-8", None),
        (
            ";",
            "cp1252",
            "semicolons between cells (--data.separator), encoding cp1252 (--data.encoding; cp1250 in Central Europe)",
        ),
        ("\t", "utf-8", "tabs between cells (--data.separator)"),
    ):
        (tmp_path / "a.csv").write_bytes(written(ROWS, separator).encode(encoding))
        splits = load(f"csv:{tmp_path}/a.csv", label="kind")
        assert sorted(labels_of(splits).items()) == sorted(ROWS[1:])
        assert ("read as csv" in splits.about) == (said is not None)
        assert said is None or f"; read as csv with {said}" in splits.about
        named = load(f"csv:{tmp_path}/a.csv", label="kind", separator=separator, encoding=encoding)
        assert "read as csv" not in named.about


def test_commas_of_texts_are_not_those_between_cells(tmp_path: Path) -> None:
    texts = [",".join("ab" * (k % 4 + 1)) for k in range(9)]
    assert find(tmp_path, "text;kind\n" + "".join(f"{text};x\n" for text in texts)).separator == ";"
    assert find(tmp_path, "id;text, first;kind\n" + "".join(f"1;{text};x\n" for text in texts)).separator == ";"
    assert find(tmp_path, "a;b\n" + "1,5;2,5\n" * 9).separator == ";"
    assert find(tmp_path, "a;b,c\n" + "1;2,3\n1,2\n" * 9).separator == ","


def test_several_separators_that_would_do_are_named(tmp_path: Path) -> None:
    content = "size, cm;kind\n" + "1,5;x\n" * 9
    with pytest.raises(
        ValueError, match=r"commas \(into 2\) and semicolons \(into 2\) split its rows evenly; choose by"
    ):
        find(tmp_path, content)
    assert find(tmp_path, content, separator=";").separator == ";"
    assert find(tmp_path, content.replace(";", "\t"), "a.tsv").separator == "\t"
    # What the first row lacks splits nothing.
    assert find(tmp_path, "a;b\n1;2\n", separator="|").separator == ";"
    assert find(tmp_path, "a^b\n1^2\n", separator="^").separator == "^"


@pytest.mark.parametrize("content", ["", "a\n", "a\n1\n", "a,b\n", "a,b", "a,b\n1\n", "\n\na,b\n"])
def test_a_comma_where_nothing_tells(tmp_path: Path, content: str) -> None:
    assert find(tmp_path, content) == CsvForm(",", "utf-8")


def test_the_line_that_spreadsheets_write_before_the_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=;\r\na,b;c\r\n1,2;3\r\n", newline="")
    assert read_file("csv", tmp_path / "a.csv").to_pydict() == {"a,b": ["1,2"], "c": ["3"]}


def test_a_cell_longer_than_what_is_looked_at(tmp_path: Path) -> None:
    assert find(tmp_path, f"a;b\n1;2\n{'x, ' * 2**20};2\n").separator == ";"
    assert find(tmp_path, f'a;b\n"{"x, " * 2**20}";2\n').separator == ";"


@pytest.mark.parametrize(
    "content",
    [
        RUSSIAN.encode("cp1251"),
        "text,kind\n\u4f60\u597d\u4e16\u754c,a\n".encode("gb18030"),
        "text,kind\n\u3053\u3093\u306b\u3061\u306f,a\n".encode("shift_jis"),
        "text,kind\ncaf\u00e9 caf\u00e9,a\n".encode() + b"\xff,b\n",
        "text,kind\ncaf\u00e9 caf\u00e9".encode()[:-1],
        b"text,kind\n\x81,a\n",
    ],
)
def test_an_encoding_that_is_uncertain_is_asked_for(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not in UTF-8 \(byte 0x.*name it by --data\.encoding"):
        find(tmp_path, content)


def test_a_named_encoding_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(RUSSIAN.encode("cp1251"))
    russian = RUSSIAN.split("\n")[1].removesuffix(",a")
    with pytest.raises(DataError, match=r"cannot load csv:.*a\.csv: it is not in UTF-8"):
        next(read_row_parts(str(tmp_path / "a.csv")))
    assert next(read_row_parts(str(tmp_path / "a.csv"), encoding="cp1251"))["text"].to_pylist() == [russian]
    noted: list[str] = []
    next(read_row_parts(str(tmp_path / "a.csv"), encoding="cp1251", note=noted.append))
    assert noted == []
    (tmp_path / "b.csv").write_bytes("text;kind\ncaf\u00e9;a\n".encode("cp1252"))
    next(read_row_parts(str(tmp_path / "b.csv"), note=noted.append))
    assert noted == [f"{tmp_path}/b.csv: read as csv with semicolons between cells, encoding cp1252"]
    # New files of a run need not be written as those that it was trained on.
    (tmp_path / "a.csv").write_text(RUSSIAN, encoding="utf-8")
    assert next(read_row_parts(str(tmp_path / "a.csv"), encoding="cp1251"))["text"].to_pylist() == [russian]
    (tmp_path / "a.csv").write_text(RUSSIAN, encoding="utf-8-sig")
    assert find(tmp_path, (tmp_path / "a.csv").read_bytes(), encoding="cp1251").encoding == "utf-8"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"PK\x03\x04", r"spreadsheet \(\.xlsx\).*save the sheet as csv"),
        (b"\xd0\xcf\x11\xe0", "save the sheet as csv"),
        (b"BZh9", "unpack it first"),
        (b"PAR1", "parquet:FILE"),
        (b"ARROW1", "arrow:FILE"),
        (b'{"a": 1}', "jsonl:FILE"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, head: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find(tmp_path, head + b"more, and more")


def test_several_forms_are_said_once() -> None:
    forms = [CsvForm(), CsvForm(";"), CsvForm(";", "cp1252"), CsvForm("^")]
    assert describe_forms(forms, None, None) == (
        "read as csv with semicolons between cells (--data.separator), encoding cp1252 (--data.encoding; cp1250 in "
        "Central Europe), '^' between cells (--data.separator)"
    )
    assert describe_forms(forms[:2], ";", None) == ""


@pytest.mark.parametrize(
    "text", ["ksi\u0105\u017cka z Krakowa", "by\u0142a mi\u0142a", "za\u017c\u00f3\u0142\u0107 g\u0119\u015bl\u0105"]
)
def test_central_european_letters_are_not_taken_for_western_signs(tmp_path: Path, text: str) -> None:
    assert find(tmp_path, f"text,kind\n{text},a\n".encode("cp1250")).encoding == "cp1250"


@pytest.mark.parametrize(
    "text", ["col\u00b7lecci\u00f3", "don\u00b4t", "l'\u00e9t\u00e9 \u00e0 5\u00b0C, 3\u00a0m\u00b2 \u00e0 2\u00a3"]
)
def test_western_signs_beside_letters(tmp_path: Path, text: str) -> None:
    assert find(tmp_path, f"text,kind\n{text},a\n".encode("cp1252")).encoding == "cp1252"
