"""A stranger's run folder names a function in places where nobody looks: it is called only if the user says so."""

import json
import shutil
from pathlib import Path

import pytest

from coterie.cli import main
from coterie.data import load as load_data
from coterie.errors import ArtifactError
from coterie.run.folder import Run
from coterie.run.values import preprocessing_of
from coterie.studies.comparison.controls import controls_folder
from coterie.studies.comparison.study import compare_run
from coterie.studies.comparison.tasks import control_tasks
from helpers import FIXTURES, rewrite_manifest

EVIL = """
import pathlib
pathlib.Path("was_here").touch()
from torch import nn
def make():
    return nn.Linear(8, 12)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("evil_networks.py").write_text(EVIL)
    shutil.copy(FIXTURES / "features.npz", "features.npz")
    return shutil.copytree(FIXTURES / "runs" / "whole-on-features", tmp_path / "run")


def name_the_function(run: Path) -> None:
    settings = json.loads((run / "manifest.json").read_text())["settings"]
    rewrite_manifest(run, settings={**settings, "backbone": "evil_networks:make"})


@pytest.mark.parametrize("control", ["superclasses", "confusion", "random"])
def test_a_control_that_names_a_function_is_refused(run: Path, control: str) -> None:
    hostile = shutil.copytree(run, controls_folder(run) / control)
    name_the_function(hostile)
    opened = Run.open_complete(run)
    splits = load_data(opened.settings.data, opened.settings.seed, preprocessing_of(opened))
    with pytest.raises(ArtifactError, match="built by the function evil_networks:make"):
        compare_run(opened, splits, train=False, allow_shared=True)
    assert not Path("was_here").exists()


def test_the_controls_of_a_run_that_names_a_function_are_not_trained(run: Path) -> None:
    opened = Run.open_complete(run)
    splits = load_data(opened.settings.data, opened.settings.seed, preprocessing_of(opened))
    name_the_function(run)
    with pytest.raises(ArtifactError, match="built by the function evil_networks:make"):
        control_tasks(Run.open_complete(run), splits, None, 1)
    assert not controls_folder(run).exists()


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "run", "features.npz"],
        ["evaluate", "run", "--source", "features:features.npz"],
        ["compare", "run", "--no-train"],
        ["headroom", "run", "--out", "out"],
        ["partition", "run", "--out", "out", "--embedding", "means"],
        ["refit", "run", "--cluster", "0", "--source", "features:features.npz", "--out", "new"],
        ["fit", "--base", "run", "--out", "new"],
    ],
    ids=lambda command: command[0],
)
def test_no_command_calls_a_function_that_a_run_names(run: Path, command: list[str], capsys) -> None:
    name_the_function(run)
    values = json.loads((run / "manifest.json").read_text())
    # As of a run that was cut short: headroom has to ask the base itself.
    files = {name: record for name, record in values["files"].items() if name != "logits/validation.safetensors"}
    rewrite_manifest(run, files=files if command[0] == "headroom" else values["files"])
    assert main(command) == 1
    assert "built by the function evil_networks:make, and loading runs no code unasked" in capsys.readouterr().err
    assert not Path("was_here").exists()


def test_a_function_that_the_user_trusts_is_called(run: Path, capsys) -> None:
    name_the_function(run)
    assert main(["predict", "run", "features.npz", "--trust", "evil_networks:make"]) == 1
    # It builds another network than the run's; but it was asked.
    assert "has its head at head" in capsys.readouterr().err
    assert Path("was_here").exists()
