"""The one place where a folder is taken, reopened and found complete."""

from pathlib import Path

import pytest

from coterie.config import FitSettings
from coterie.errors import ArtifactError
from coterie.pipeline.job import unless_complete
from coterie.run.folder import Run
from coterie.system.lock import hold


@pytest.fixture
def steps() -> list[str]:
    return []


def do(run: Run, steps: list[str], prepare=lambda: "prepared") -> str:
    def work(prepared: str) -> str:
        steps.append(f"work on {prepared}")
        with pytest.raises(ArtifactError, match="is being written by"):
            run.refuse_if_held()
        return "worked"

    return unless_complete(run, prepare, work, lambda: "loaded")


def test_a_run_is_worked_on_alone(tmp_path: Path, steps: list[str]) -> None:
    run = Run.create_or_resume(tmp_path / "run", FitSettings())
    assert do(run, steps) == "worked"
    assert steps == ["work on prepared"]
    run.refuse_if_held()


def test_a_complete_run_is_loaded_and_nothing_prepared(tmp_path: Path, steps: list[str]) -> None:
    run = Run.create_or_resume(tmp_path / "run", FitSettings())
    run.update(complete=True)
    assert do(run, steps, lambda: pytest.fail("prepared")) == "loaded"
    assert steps == []


def test_a_run_that_another_process_completes_meanwhile_is_loaded(tmp_path: Path, steps: list[str]) -> None:
    run = Run.create_or_resume(tmp_path / "run", FitSettings())

    def prepare() -> str:
        Run.create_or_resume(run.path, FitSettings()).update(complete=True)
        return "prepared"

    assert do(run, steps, prepare) == "loaded"
    assert steps == []


def test_a_held_folder_is_refused_before_anything_is_prepared(tmp_path: Path, steps: list[str]) -> None:
    run = Run.create_or_resume(tmp_path / "run", FitSettings())
    with hold(run.path), pytest.raises(ArtifactError, match="is being written by"):
        do(run, steps, lambda: pytest.fail("prepared"))
    assert steps == []
