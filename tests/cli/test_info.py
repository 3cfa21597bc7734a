from pathlib import Path

import pytest

from coterie.cli import main


def test_what_is_missing_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["info", "nowhere"]) == 1
    assert "nowhere is not a coterie run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
