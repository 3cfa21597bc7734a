import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from coterie.cli.writers import format_of, open_writer, refuse_place
from coterie.ensemble.explanation import Explanation, SpecialistAnswer
from coterie.errors import ArtifactError, SettingsError

ASKED = Explanation(
    "=a\u202e", 0.75, True, "entropy", 0.5, 0.4, 1, ("b",), (("b", 0.5),), (SpecialistAnswer(1, 1.0, (("c", 0.25),)),)
)
SURE = Explanation("b", 0.5, False, "entropy", 0.25, None, 0, ("b",), (("b", 0.5),), ())
NAMES = ["one\x1b.png", "\udcff\n.png", 'two ", \r']
HEADINGS = ["predicted", "probability", "routed", "score", "cluster", "base", "base_probability", "specialist"]


def write(kind: str, out: Path | None) -> None:
    with open_writer(kind, out, "file") as writer:
        writer([(NAMES[0], ASKED), (NAMES[1], SURE)])
        writer([(NAMES[2], SURE)])


def test_a_csv_file_holds_a_row_each_and_names_as_they_are(tmp_path: Path) -> None:
    write("csv", tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["file", *HEADINGS, "specialist_probability"]
    assert [row[0] for row in rows] == [NAMES[0], "\\udcff\n.png", NAMES[2]]
    assert rows[0][1:] == ["=a\u202e", "0.75", "True", "0.5", "1", "b", "0.5", "c", "0.25"]
    assert rows[1][-2:] == ["", ""]


def test_a_parquet_file_holds_the_same_by_type(tmp_path: Path) -> None:
    write("parquet", tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["file", *HEADINGS, "specialist_probability"]
    first, second, third = table.to_pylist()
    assert (first["file"], second["file"], third["file"]) == (NAMES[0], "\\udcff\n.png", NAMES[2])
    assert (first["predicted"], first["routed"], first["cluster"]) == ("=a\u202e", True, 1)
    assert (first["probability"], first["specialist_probability"], second["specialist"]) == (0.75, 0.25, None)


def test_json_lines_hold_all(tmp_path: Path) -> None:
    write("jsonl", tmp_path / "a.jsonl")
    first, second, third = map(json.loads, (tmp_path / "a.jsonl").read_text("utf-8").splitlines())
    assert [first["file"], second["file"], third["file"]] == NAMES
    assert first["specialists"] == [{"cluster": 1, "weight": 1.0, "top": [["c", 0.25]]}]


def test_csv_on_a_terminal_shows_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    write("csv", None)
    text = capsys.readouterr().out
    assert len(text.split("\n")) == 6  # a line feed stays
    assert "one\\x1b.png,=a\\u202e," in text
    assert not {"\x1b", "\u202e", "\udcff", "\r"} & set(text)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    out.write_text("before")
    with pytest.raises(AttributeError), open_writer("parquet", out, "file") as writer:
        writer([("one", SURE), ("two", None)])
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(ArtifactError, match="cannot write"), open_writer("csv", out / "b.csv", "file"):
        pass


@pytest.mark.parametrize(
    ("kind", "out", "message"),
    [
        (
            None,
            "a.txt",
            "a.txt: allowed are names that end in .jsonl, .ndjson, .csv, .parquet, or any name with --form",
        ),
        ("table", "a.csv", "a.csv: allowed are"),
        ("csv", "a.jsonl", "a.jsonl: ends as jsonl, and --format is csv"),
        ("parquet", None, "--format parquet: is no text, and needs a file"),
    ],
)
def test_formats_that_contradict_the_file(kind: str | None, out: str | None, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        format_of(kind, Path(out) if out else None)
    assert message in str(caught.value)


def test_the_name_of_a_file_says_its_format() -> None:
    assert [format_of(None, Path(name)) for name in ("a.JSONL", "b.csv", "c.parquet")] == ["jsonl", "csv", "parquet"]
    assert [format_of(None, None), format_of("csv", None), format_of("csv", Path("a"))] == ["table", "csv", "csv"]


def test_no_input_and_no_folder_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n")
    (tmp_path / "link.csv").symlink_to("a.csv")
    with pytest.raises(SettingsError, match="is what is to be classified"):
        refuse_place(tmp_path / "a.csv", ["a\0b", str(tmp_path / "link.csv")])
    with pytest.raises(SettingsError, match="is not a regular file"):
        refuse_place(tmp_path, [])
    refuse_place(tmp_path / "new.csv", ["new.csv"])
