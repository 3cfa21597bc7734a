import dataclasses

import pytest

import coterie
from conftest import make_settings, make_splits
from coterie.controls import controls_folder, train_controls
from coterie.data.splits import Splits
from coterie.progress import Progress
from coterie.run_folder import Run


@pytest.fixture(scope="module")
def splits() -> Splits:
    return dataclasses.replace(make_splits(), flip=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory, splits: Splits) -> Run:
    settings = make_settings()
    path = tmp_path_factory.mktemp("runs") / "run"
    coterie.fit(settings, path, splits=splits)
    groups = path.parent / "groups.json"
    groups.write_text('["a", "b", "a", "b", "a", "b", "a", "b"]')
    for _, train in train_controls(Run.open_complete(path), splits, str(groups), 1, Progress()):
        train()
    return Run.open_complete(path)


def test_each_control_is_there_with_its_logits(run: Run) -> None:
    there = {path.name for path in controls_folder(run.path).iterdir() if path.is_dir()}
    assert there == {"all-classes", "weight-average", "random", "confusion", "superclasses", "member-1"}
