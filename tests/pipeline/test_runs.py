from pathlib import Path

import pytest
import torch

import coterie
from coterie.config import EngineSettings, FitSettings
from coterie.data.splits import Splits
from coterie.errors import EngineError, PartitionError
from coterie.pipeline import prepare as pipeline_prepare
from coterie.pipeline.runs import FitTask, as_task, fit_all, fit_seeds, resources_of
from coterie.progress import Progress
from coterie.run.folder import Run
from helpers import changed, weights

pytestmark = pytest.mark.slow


class Lanes(Progress):
    """Remembers what each lane was told."""

    def __init__(self, lanes: list[list[str]]) -> None:
        self.lanes, self.titles = lanes, []

    def lane(self) -> Progress:
        lane = Lanes(self.lanes)
        self.lanes.append(lane.titles)
        return lane

    def stage(self, title: str, steps: int) -> None:
        self.titles.append(title)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_in_one_run_loses_none_of_the_others(
    workers: int, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    coterie.fit(settings, tmp_path / "first", splits=splits)
    two, nine = (changed(settings, partition={"clusters": [clusters]}) for clusters in (2, 9))
    tasks = [
        FitTask("nine", nine, tmp_path / "study/nine", tmp_path / "first"),
        FitTask("two", two, tmp_path / "study/two", tmp_path / "first"),
        FitTask("again", settings, tmp_path / "study/again", tmp_path / "first"),
    ]
    progress = Lanes([])
    outcomes = fit_all(tasks, splits, EngineSettings(workers=workers), progress)
    with pytest.raises(PartitionError, match="9 clusters of 8 classes"):
        outcomes[0].unwrap()
    assert [outcome.unwrap() for outcome in outcomes[1:]] == [tmp_path / "study/two", tmp_path / "study/again"]
    assert weights(tmp_path / "study/again") == weights(tmp_path / "first")
    assert Run.open_complete(tmp_path / "study/two").read("base.safetensors")
    told = {title for lane in progress.lanes for title in lane}
    assert told >= {"two: specialist 0 of 2", "two: specialist 1 of 2", "two: evaluation"}
    assert torch.get_num_threads() == 1


def test_all_seeds_have_the_recipe_of_the_first_whatever_time_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.5, 2.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr(pipeline_prepare, "epoch_seconds", lambda *_: next(times))
    short = {"epochs": 2, "batch_size": 64}
    values = {"data": {"train_per_class": 8}, "backbone": "convnet-8", "base": short, "budget": "1s", "recipe": "copy"}
    settings = FitSettings.from_values({**values, "hardware": {"accelerator": "cpu", "threads": 1}})
    for _ in range(2):  # the second time the runs are there
        runs = fit_seeds(settings, tmp_path, 2, engine=EngineSettings(workers=1))
        assert not runs.failed
        stored = [run.settings for run in runs.finished.values()]
        assert [(each.seed, each.specialist.epochs) for each in stored] == [(0, 2), (1, 2)]


def test_a_run_takes_the_same_threads_whoever_does_it(settings: FitSettings) -> None:
    unset = changed(settings, hardware={**settings.hardware.model_dump(), "threads": None})
    assert as_task(unset).hardware.threads == 1
    assert as_task(changed(settings, hardware={"threads": 3})).hardware.threads == 3
    assert resources_of([unset, changed(settings, hardware={"threads": 3})]).threads == 3


def test_a_folder_that_a_node_does_not_see_is_an_error(
    settings: FitSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (outcome,) = fit_all([FitTask("lost", settings, Path("relative/run"))], engine=EngineSettings(workers=1))
    with pytest.raises(EngineError, match="need a file system that all nodes see"):
        outcome.unwrap()
