from pathlib import Path

import pytest

from coterie.cli import main


def test_what_is_missing_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "--out", "x", "--seeds", "0"]) == 1
    assert "at least 1 seed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
