"""Commands of somebody who may not write, or not even read."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from coterie.cli import main

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root becomes somebody else")


@pytest.fixture
def run_of_another(trained_run: Path) -> Iterator[Path]:
    """A run that this process may read and not write, in a folder of the same kind."""
    # Not in tmp_path, which nobody else may enter.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        run = shutil.copytree(trained_run, Path(place) / "run")
        os.seteuid(NOBODY)
        try:
            yield run
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("command", [["report"], ["tune", "--combiner", "hard"], ["repair"]])
def test_who_may_not_write_is_told_so(
    command: list[str], run_of_another: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], str(run_of_another), *command[1:]]) == 1
    assert f"error: cannot write to {run_of_another}: Permission denied" in capsys.readouterr().err


def test_reading_takes_no_more_than_the_right_to_read(run_of_another: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(run_of_another)]) == 0
    assert main(["evaluate", str(run_of_another)]) == 0
    assert "ensemble" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["info", "evaluate", "report", "tune", "repair", "fit"])
def test_who_may_not_read_is_told_so(command: str, run_of_another: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.seteuid(0)
    run_of_another.chmod(0o700)
    os.seteuid(NOBODY)
    named = ["--out", str(run_of_another)] if command == "fit" else [str(run_of_another)]
    assert main([command, *named]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot read {run_of_another}")
    assert "Permission denied" in said
