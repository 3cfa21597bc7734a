import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coterie
from coterie.cli import main
from coterie.config import FitSettings
from coterie.data import new
from coterie.run.folder import Run
from coterie.system.output import to_json
from helpers import FIXTURES


def test_what_is_missing_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "nowhere", "a.png", "--top", "0"]) == 1
    assert "--top 0: must be at least 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_to_be_classified_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(FIXTURES / "runs" / "whole-on-features")]) == 1
    assert capsys.readouterr().err == "error: predict needs what is to be classified: coterie predict RUN INPUT ...\n"


def test_names_that_control_a_terminal_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Class names of a stranger's run, and a file's name that is no UTF-8."""
    run = shutil.copytree(FIXTURES / "runs" / "whole-on-features", tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    names = [f"\x1b]0;{k}\x07[/x] [kg] \u202e\u2028" for k in range(len(manifest["data"]["classes"]))]
    manifest["data"] |= {"classes": names, "about": "\x1b]52;c;aGk=\x07"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    file = str(tmp_path / "\udcff.npy")
    np.save(file, np.zeros((2, 6)))
    printed = []
    for arguments in (["info"], ["predict", file], ["evaluate"]):
        assert main([arguments[0], str(run), *arguments[1:]]) == 0
        printed += capsys.readouterr()
    assert main(["predict", str(run), f"{file}\x1b[2J.npy"]) == 1
    printed += capsys.readouterr()
    text = "".join(printed)
    assert "\\x1b]0;" in text
    assert "\\udcff.npy\\x1b[2J.npy" in text
    assert not {"\x1b", "\x07", "\u202e", "\u2028", "\udcff"} & set(text)
    assert main(["predict", str(run), file, "--format", "jsonl"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for row, line in enumerate(map(json.loads, lines), start=1):
        assert line["row"] == f"{file} row {row}"
        assert line["predicted"] in names


@given(st.text())
def test_a_line_of_json_is_one_line_for_every_reader(text: str) -> None:
    line = to_json({"text": text})
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {"text": text}
    line.encode()


def test_what_is_broken_is_named_and_skipped_and_the_rest_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, files = str(FIXTURES / "runs" / "whole-on-features"), tmp_path / "files"
    files.mkdir()
    np.save(files / "a.npy", np.zeros((2, 6)))
    np.save(files / "b.npy", np.zeros((2, 5)))
    (files / "c.npy").write_bytes(b"no")
    out = tmp_path / "answers.csv"
    assert main(["predict", run, str(files), "--out", str(out)]) == 1
    assert "b.npy: the networks take 6 features" in capsys.readouterr().err
    assert not out.exists()
    monkeypatch.setattr(new, "ROWS", 1)  # so that it counts as long
    assert main(["predict", run, str(files), "--out", str(out), "--skip-broken"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [name in printed.err for name in ("skipped: ", "b.npy: the networks", "c.npy: it must")] == [True] * 3
    assert "predict              2/2" in printed.err
    assert out.read_text().count(f"{files}/a.npy row ") == 2
    assert main(["predict", run, str(files / "b.npy"), "--skip-broken"]) == 1
    assert "error: no row to classify" in capsys.readouterr().err


def test_few_new_rows_are_read_in_the_code_page_of_those_that_were_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By themselves they do not tell which it is."""
    kinds = {
        "reklamace": "zbo\u017e\u00ed je po\u0161kozen\u00e9",
        "dotaz": "kdy p\u0159ijde m\u016fj bal\u00ed\u010dek",
    }
    learned = [f"{text} {number},{kind}" for number in range(30) for kind, text in kinds.items()]
    (tmp_path / "learned.csv").write_bytes("\n".join(["text,kind", *learned]).encode("cp1250"))
    (tmp_path / "new.csv").write_bytes("text\n\u017e\u00ed\n".encode("cp1250"))
    values = {"data": {"source": f"csv:{tmp_path}/learned.csv", "label": "kind"}, "backbone": "ngram-8"}
    coterie.fit(FitSettings.from_values({**values, "base": {"epochs": 1}, "recipe": "copy"}), tmp_path / "run")
    assert Run.open(tmp_path / "run").manifest.data.encoding == "cp1250"
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "new.csv")]) == 0
    assert "encoding" not in capsys.readouterr().err
    assert main(["predict", str(FIXTURES / "runs" / "blend-of-texts"), str(tmp_path / "new.csv")]) == 1
    assert "in no other encoding for certain" in capsys.readouterr().err
