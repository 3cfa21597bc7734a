from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from coterie.data import read_new
from coterie.errors import DataError, InputError
from coterie.inputs import NGramPreprocessing
from data_files import FEATURES, KINDS, TABLE, load, write


def test_new_texts_come_from_arguments_and_files(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("first\nsecond\n")
    new = read_new(NGramPreprocessing(64, 8), ["a text?", str(tmp_path / "lines.txt")])
    assert new.names == ("a text?", "first", "second")
    assert len(new.samples) == 3


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_new_texts_come_from_a_column_of_a_file(tmp_path: Path, suffix: str) -> None:
    preprocessing, file = NGramPreprocessing(64, 8), tmp_path / f"new.{suffix}"
    write(file, {"text": ["first", "second"], "title": ["a", "b"]})
    assert read_new(preprocessing, [str(file), "third"]).names == ("first", "second", "third")
    assert read_new(preprocessing, [str(file)], text="title").names == ("a", "b")
    write(file, {"number": [1], "body": ["only"]})
    assert read_new(preprocessing, [str(file)]).names == ("only",)
    write(file, {"title": ["a"], "body": ["b"]})
    with pytest.raises(DataError, match="has no column 'text' of texts; columns: title, body"):
        read_new(preprocessing, [str(file)])


@pytest.mark.parametrize(
    ("argument", "message"),
    [("nosuch.txt", "cannot read nosuch.txt: no such file"), ("", "text 1 of 1: empty. --skip-broken leaves")],
)
def test_new_texts_that_are_none(argument: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_new(NGramPreprocessing(64, 8), [argument])
    with pytest.raises(DataError, match=message.split(":")[0] if argument else "no text to classify"):
        read_new(NGramPreprocessing(64, 8), [argument], skip_broken=True)


def test_a_file_of_other_bytes_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_new(NGramPreprocessing(64, 8), [str(tmp_path / "a.txt")])


def test_new_rows_and_features(tmp_path: Path) -> None:
    preprocessing = load(write(tmp_path / "all.csv", {**TABLE, "kind": KINDS}), label="kind").preprocessing
    write(tmp_path / "new.jsonl", {"colour": ["red"], "zip": [8], "size": [2.0], "more": [1]})
    new = read_new(preprocessing, [str(tmp_path / "new.jsonl")])
    assert new.samples.show(0) == "size = 2, zip = 8, colour = red"
    assert new.names == (f"{tmp_path}/new.jsonl row 1",)
    write(tmp_path / "less.csv", {"size": [2.0]})
    with pytest.raises(InputError, match="missing: zip, colour; there: size"):
        read_new(preprocessing, [str(tmp_path / "less.csv")])
    with pytest.raises(DataError, match=r"cannot tell what .*rows\.txt is"):
        read_new(preprocessing, [str(tmp_path / "rows.txt")])
    np.savez(tmp_path / "all.npz", features=FEATURES, labels=np.array(KINDS))
    preprocessing = load(f"features:{tmp_path}/all.npz").preprocessing
    np.save(tmp_path / "new.npy", FEATURES[:4])
    assert len(read_new(preprocessing, [str(tmp_path / "new.npy"), str(tmp_path / "all.npz")]).samples) == 24
    np.save(tmp_path / "scalar.npy", np.float32(1))
    with pytest.raises(InputError, match=r"got an array of shape \(\)"):
        read_new(preprocessing, [str(tmp_path / "scalar.npy")])
    np.save(tmp_path / "other.npy", FEATURES[:, :2])
    with pytest.raises(InputError, match="3 features"):
        read_new(preprocessing, [str(tmp_path / "other.npy")])


def test_lines_end_with_a_newline_alone_and_a_mark_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\ufeffone\u2028half\r\ntwo\x85 \x0c half\nthree"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8", newline="")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    for argument in (str(tmp_path / "a.txt"), "-"):
        new = read_new(NGramPreprocessing(64, 8), [argument])
        assert new.names == ("one\u2028half", "two\x85 \x0c half", "three")


@pytest.mark.parametrize("name", ["new.txt", "new.csv", "new.jsonl", "new.parquet", "new"])
def test_a_pipe_of_texts_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="not a regular file"):
        read_new(NGramPreprocessing(64, 8), [str(tmp_path / name)])


def test_what_is_no_name_of_a_file_is_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refunds").mkdir()
    texts = ["long " * 100, "null\0character", "~nobody/here", "refunds"]
    assert read_new(NGramPreprocessing(64, 8), texts).names == tuple(texts)


def test_a_row_is_the_same_alone_and_beside_others_of_other_files(tmp_path: Path) -> None:
    codes = ["A1", "01234", "1234", "NA"] * 5
    source = write(tmp_path / "all.csv", {"code": codes, "size": range(20), "kind": KINDS})
    preprocessing = load(source, label="kind").preprocessing
    for k, code in enumerate(("01234", "1234", "A1", "NA")):
        (tmp_path / f"{k}.csv").write_text(f"code,size\n{code},1.5\n")
    (tmp_path / "4.jsonl").write_text('{"code": 1234, "size": 3}\n')
    (tmp_path / "5.jsonl").write_text('{"code": "01234", "size": null}\n')
    files = [str(tmp_path / f"{k}.{'csv' if k < 4 else 'jsonl'}") for k in range(6)]
    together = read_new(preprocessing, files).samples.read(torch.arange(6))
    alone = [read_new(preprocessing, [file]).samples for file in files]
    expected = torch.cat([samples.read(torch.arange(len(samples))) for samples in alone])
    torch.testing.assert_close(together, expected, equal_nan=True)
    assert together[:, 1].tolist() == [2, 3, 4, 5, 3, 2]


def test_new_texts_of_one_file_do_not_depend_on_what_they_look_like(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body,id\n007,1\nNA,2\n")
    assert read_new(NGramPreprocessing(64, 8), [str(tmp_path / "a.csv")], text="body").names == ("007", "NA")
    (tmp_path / "a.csv").write_text("body\n12\n7\n")
    assert read_new(NGramPreprocessing(64, 8), [str(tmp_path / "a.csv")]).names == ("12", "7")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_standard_input_is_utf8_whatever_the_terminals_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.TextIOWrapper(io.BytesIO("caf\u00e9\r\ntea\n".encode("utf-8-sig")), encoding)
    monkeypatch.setattr("sys.stdin", piped)
    assert read_new(NGramPreprocessing(2**10, 10), ["-"]).names == ("caf\u00e9", "tea")
