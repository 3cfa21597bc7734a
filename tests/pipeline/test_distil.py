"""An ensemble taught back into one network."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import coterie
from coterie.cli.terminal.console import SafeConsole
from coterie.cli.terminal.distil import print_distilled
from coterie.config import GateSettings
from coterie.data.splits import Splits
from coterie.errors import ArtifactError, CoterieError, DataError
from coterie.pipeline.distil import distil, distilled_rows
from coterie.pipeline.tuning import tuning_request
from coterie.progress import Progress
from coterie.run.folder import Run
from coterie.run.reporting import retune
from coterie.studies.comparison.study import compare_run
from helpers import make_split, make_splits, rewrite_manifest, weights


class StoppedError(Exception):
    """As somebody stops the training."""


class StopAfter(Progress):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        self.left -= steps
        if self.left < 0:
            raise StoppedError


class Notes(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


class Stages(Progress):
    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def stage(self, title: str, steps: int) -> None:
        self.of[title] = steps


@pytest.fixture(scope="session")
def routing_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained run that routes half of the samples."""
    path = shutil.copytree(trained_run, tmp_path_factory.mktemp("routing") / "run")
    request = tuning_request(GateSettings(score="entropy", combiner="compose", top=1, threshold=0.5))
    retune(Run.open_finished(path), request)
    return path


@pytest.fixture(scope="session")
def distilled(routing_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A distilled run with its controls, and what was noted."""
    notes, out = Notes(), tmp_path_factory.mktemp("distilled") / "new"
    distil(routing_run, out, epochs=2, splits=make_splits(), progress=notes)
    return out, notes.texts


def test_the_student_is_a_run_of_one_pass(distilled: tuple[Path, list[str]], routing_run: Path, splits: Splits) -> None:
    out, _ = distilled
    student, teacher = coterie.load(out), coterie.load(routing_run)
    assert len(student.specialists) == 0
    decision = student.decide(splits.test.samples)
    assert not decision.routed_N.any()
    assert not decision.asked_NS.any()
    before, after = teacher.base.state_dict(), student.base.state_dict()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert {name for name in weights(out) if not name.startswith("logits/")} == {
        "base.safetensors",
        "examples.safetensors",
        "head.safetensors",
    }
    (change,) = Run.open(out).manifest.changes
    assert (change.kind, change.run, change.weight) == ("distil", str(routing_run), 0.5)
    assert Run.open_complete(out).faults() == {}


def test_the_table_is_of_the_test_samples(
    distilled: tuple[Path, list[str]], routing_run: Path, splits: Splits, capsys
) -> None:
    out, notes = distilled
    rows = {row.name: row for row in distilled_rows(out)}
    assert list(rows) == ["distilled", "ensemble", "base", "base trained on"]
    ensemble, label_N = coterie.load(routing_run), splits.test.labels_N.numpy()
    decision = ensemble.decide(splits.test.samples)
    assert rows["ensemble"].accuracy == pytest.approx((decision.proba_NC.argmax(1) == label_N).mean())
    assert rows["base"].accuracy == pytest.approx((decision.base_logits_NC.argmax(1) == label_N).mean())
    student_N = coterie.load(out).predict(splits.test.samples)
    assert rows["distilled"].accuracy == pytest.approx((student_N == label_N).mean())
    assert rows["distilled"].gain.mean == pytest.approx(rows["distilled"].accuracy - rows["base"].accuracy)
    lead = rows["base trained on"].lead
    assert lead.mean == pytest.approx(rows["distilled"].accuracy - rows["base trained on"].accuracy)
    assert rows["ensemble"].passes > 1
    assert rows["ensemble"].storage > 1
    assert rows["distilled"].passes == rows["distilled"].storage == 1
    assert any("all-classes is missing" in note for note in notes)
    print_distilled(SafeConsole(), distilled_rows(out))
    assert "base trained on" in capsys.readouterr().out


def test_it_learns_what_the_ensemble_says(routing_run: Path, tmp_path: Path, splits: Splits) -> None:
    """With the labels alone, other weights come out; those of the answers alone are nearer to the ensemble."""
    far = {}
    target_NC = coterie.load(routing_run).predict_proba(splits.train.samples)
    for weight in (0.0, 1.0):
        student = distil(
            routing_run, tmp_path / f"{weight}", epochs=4, weight=weight, controls=False, splits=make_splits()
        )
        own_NC = student.predict_proba(splits.train.samples)
        far[weight] = float((target_NC * np.log((target_NC + 1e-9) / (own_NC + 1e-9))).sum(1).mean())
        assert len(distilled_rows(tmp_path / f"{weight}")) == 3
    assert far[1.0] < far[0.0]


@pytest.mark.parametrize("steps", [9, 15])
def test_it_goes_on_to_the_same_bits(
    steps: int, distilled: tuple[Path, list[str]], routing_run: Path, tmp_path: Path
) -> None:
    """Stopped within the student's training (12 steps), and within the control's."""
    out = tmp_path / "new"
    with pytest.raises(StoppedError):
        distil(routing_run, out, epochs=2, splits=make_splits(), progress=StopAfter(steps))
    assert not Run.open(out).complete
    with pytest.raises(ArtifactError, match="holds another run"):
        distil(routing_run, out, epochs=2, weight=0.9, splits=make_splits())
    distil(routing_run, out, epochs=2, splits=make_splits())
    assert weights(out) == weights(distilled[0])
    assert distilled_rows(out) == distilled_rows(distilled[0])


def test_samples_without_labels_are_learned_too(routing_run: Path, tmp_path: Path) -> None:
    pixels_NHW = make_split(6, 8, seed=3).samples.read(torch.arange(48)).squeeze(3).numpy()
    (tmp_path / "more").mkdir()
    for number, pixels in enumerate(pixels_NHW):
        Image.fromarray(pixels).save(tmp_path / "more" / f"{number}.png")
    steps, more = Stages(), (str(tmp_path / "more"),)
    distil(routing_run, tmp_path / "new", epochs=2, unlabelled=more, splits=make_splits(), progress=steps)
    # 192 samples with labels and 48 without, in batches of 32; by the labels alone, for as long.
    assert steps.of["base"] == steps.of["base trained on"] == 2 * (240 // 32)
    (change,) = Run.open(tmp_path / "new").manifest.changes
    assert change.unlabelled == more
    with pytest.raises(ArtifactError, match="holds another run"):
        distil(routing_run, tmp_path / "new", epochs=2, splits=make_splits())


def test_samples_without_labels_that_are_not_there_are_named(routing_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        distil(routing_run, tmp_path / "new", epochs=1, unlabelled=("nowhere.png",), splits=make_splits())


def test_the_all_class_copy_teaches_too(routing_run: Path, finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(routing_run, tmp_path / "with")
    shutil.copytree(finished_run, run / "controls" / "all-classes")
    notes = Notes()
    distil(run, tmp_path / "new", epochs=1, splits=make_splits(), progress=notes)
    assert [row.name for row in distilled_rows(tmp_path / "new")][-1] == "base, from the all-class copy"
    assert not any("all-class" in note for note in notes.texts)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"learning_rate": -1.0}, "learning_rate = -1.0"),
        ({"weight": 1.5}, "weight = 1.5: must be from 0"),
        ({"weight": float("nan")}, "weight = nan"),
    ],
)
def test_numbers_out_of_range_are_refused(values: dict, message: str, routing_run: Path, tmp_path: Path) -> None:
    with pytest.raises(CoterieError, match=message):
        distil(routing_run, tmp_path / "new", splits=make_splits(), **values)
    assert not (tmp_path / "new").exists()


def test_nothing_is_distilled_of_a_base_alone(distilled: tuple[Path, list[str]], tmp_path: Path) -> None:
    with pytest.raises(CoterieError, match="has no specialists"):
        distil(distilled[0], tmp_path / "new", splits=make_splits())


def test_compare_sends_to_the_run_that_it_was_distilled_from(
    distilled: tuple[Path, list[str]], routing_run: Path, splits: Splits
) -> None:
    with pytest.raises(ArtifactError, match=f"distilled from {routing_run}"):
        compare_run(Run.open_complete(distilled[0]), splits)


def test_nothing_is_distilled_where_nothing_is_routed(finished_run: Path, tmp_path: Path) -> None:
    gate = json.loads((finished_run / "manifest.json").read_text())["gate"]
    rewrite_manifest(finished_run, gate={**gate, "threshold": None})
    with pytest.raises(CoterieError, match="routes nothing"):
        distil(finished_run, tmp_path / "new", splits=make_splits())


def test_other_places_and_lost_data_are_refused(routing_run: Path, tmp_path: Path, trained_run: Path) -> None:
    with pytest.raises(ArtifactError, match="is the run itself"):
        distil(routing_run, routing_run, splits=make_splits())
    with pytest.raises(ArtifactError, match="holds another run"):
        distil(routing_run, trained_run, splits=make_splits())
    with pytest.raises(ArtifactError, match="has changed since"):
        distil(routing_run, tmp_path / "new", splits=make_splits(n_classes=6))
    lost = shutil.copytree(routing_run, tmp_path / "lost")
    settings = Run.open(lost).settings.to_values()
    rewrite_manifest(lost, settings={**settings, "data": {**settings["data"], "source": "parquet:/nowhere"}})
    with pytest.raises(DataError, match="/nowhere"):
        distil(lost, tmp_path / "new")
    named = shutil.copytree(routing_run, tmp_path / "named")
    rewrite_manifest(named, settings={**settings, "backbone": "mine:make"})
    with pytest.raises(ArtifactError, match="--trust mine:make"):
        distil(named, tmp_path / "new")
    assert not (tmp_path / "new").exists()
