from pathlib import Path

import pytest

from coterie.cli import main


def test_what_was_done_is_printed(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished_run / "metrics.json").unlink()
    assert main(["info", str(finished_run)]) == 0
    assert main(["evaluate", str(finished_run)]) == 1
    assert f"metrics.json: missing; `coterie repair {finished_run}` mends" in capsys.readouterr().err
    assert main(["repair", str(finished_run)]) == 0
    assert capsys.readouterr().out.startswith("metrics.json: missing. Computed again from the stored logits\n")
    assert main(["repair", str(finished_run)]) == 0
    assert capsys.readouterr().out == f"{finished_run} is whole\n"


def test_what_is_missing_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["repair", "nowhere"]) == 1
    assert "nowhere is not a coterie run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
