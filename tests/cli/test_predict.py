import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.cli import main
from coterie.cli.predict import _json_line


def test_what_is_missing_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "nowhere", "a.png", "--top", "0"]) == 1
    assert "--top 0: must be at least 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@given(st.text())
def test_a_line_of_json_is_one_line_for_every_reader(text: str) -> None:
    line = _json_line({"text": text})
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {"text": text}
    line.encode()
