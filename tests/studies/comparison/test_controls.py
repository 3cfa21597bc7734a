import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

import coterie
from coterie.config import EngineSettings
from coterie.data.flipped import FlippedImages
from coterie.data.splits import Split, Splits
from coterie.errors import ArtifactError, BackboneError, CoterieError, DataError
from coterie.inputs import MemorySamples
from coterie.pipeline.runs import FitTask
from coterie.progress import SILENT, Progress
from coterie.run.folder import Run
from coterie.run.reporting import read_outputs
from coterie.run.values import partition_of
from coterie.studies.comparison import controls
from coterie.studies.comparison.contenders import contenders_of
from coterie.studies.comparison.controls import (
    _fresh,
    add_flipped,
    ask_features,
    controls_folder,
    read_flipped,
    train_weight_average,
)
from coterie.studies.comparison.study import compare_run
from coterie.studies.comparison.tables import Comparison
from coterie.studies.comparison.tasks import control_tasks
from coterie.studies.comparison.untrained import neighbour_logits
from helpers import make_settings, make_splits, rewrite_manifest, weights

pytestmark = pytest.mark.slow


class Stages(Progress):
    def __init__(self) -> None:
        self.titles: list[str] = []

    def stage(self, title: str, steps: int) -> None:
        self.titles.append(title)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return dataclasses.replace(make_splits(), flip=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, splits: Splits) -> Run:
    path = tmp_path_factory.mktemp("runs") / "run"
    coterie.fit(make_settings(), path, splits=splits)
    groups = path.parent / "groups.json"
    groups.write_text('["a", "b", "a", "b", "a", "b", "a", "b"]')
    compare_run(Run.open_complete(path), splits, superclasses=str(groups), members=1)
    return Run.open_complete(path)


def without_controls(run: Run, path: Path) -> Run:
    """The run as it was before it was compared."""
    shutil.copytree(run.path, path, ignore=shutil.ignore_patterns("controls", "comparison.*", "*-flipped.safetensors"))
    values = json.loads((path / "manifest.json").read_text())
    compared = ("comparison.", "logits/test-flipped", "logits/validation-flipped")
    values["files"] = {name: record for name, record in values["files"].items() if not name.startswith(compared)}
    (path / "manifest.json").write_text(json.dumps(values))
    return Run.open_complete(path)


@pytest.fixture(scope="module")
def comparison(run: Run) -> Comparison:
    return Comparison.from_values(run.read_json("comparison.json"))


def test_each_control_is_there_and_every_row_with_and_without_flips(run: Run, comparison: Comparison) -> None:
    there = {path.name for path in controls_folder(run.path).iterdir() if path.is_dir()}
    assert there == {"features", "all-classes", "weight-average", "random", "confusion", "superclasses", "member-1"}
    names = {
        "base",
        "base, calibrated",
        "class offsets",
        "nearest neighbours",
        "fitted head",
        "base, trained on",
        "all-class copy",
        "weight average",
        "snapshots",
        "random clusters",
        "confusion clusters",
        "superclasses",
        "specialists",
        "tuned to 1.5 passes",
        "tuned to 2 passes",
        "deep ensemble of 2",
    }
    assert {(row.name, row.flips) for row in comparison.rows} == {(n, flips) for n in names for flips in (False, True)}
    assert any("deep ensemble of 4 is left out" in note for note in comparison.notes)


def test_the_controls_start_from_the_runs_base_and_cost_what_they_should(run: Run, comparison: Comparison) -> None:
    for name in ("all-classes", "random", "confusion", "superclasses"):
        control = Run.open_complete(controls_folder(run.path) / name)
        assert control.read("base.safetensors") == run.read("base.safetensors")
    member = Run.open(controls_folder(run.path) / "member-1")
    assert member.read("base.safetensors") != run.read("base.safetensors")
    # Half the base's epochs on all images: four for the base, two for the specialists.
    for name, training, passes in (
        ("base", 1, 1),
        ("all-class copy", 1.5, 2),
        ("base, trained on", 1.5, 1),
        ("deep ensemble of 2", 2, 2),
    ):
        cost = comparison.row(name).cost
        assert (cost.training, cost.inference) == (training, passes)
        assert comparison.row(name, flips=True).cost.inference == 2 * passes
    # Their heads are smaller, and this network is all head.
    assert 1.4 < comparison.row("specialists").cost.training < 1.5


def test_the_features_control_says_what_the_inputs_of_the_head_say(run: Run, splits: Splits) -> None:
    control, base = Run.open(controls_folder(run.path) / "features"), coterie.load(run.path).base
    seen: list[torch.Tensor] = []
    head = base.get_submodule(run.manifest.head.path)
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    for split in (splits.train, splits.test):
        base(splits.preprocessing(split.samples.read(torch.arange(len(split)))))
    hook.remove()
    known_ND, asked_ND = (features.numpy() for features in seen)
    found = control.read_tensors("logits/test.safetensors")
    label_N = splits.train.labels_N.numpy()
    expected = neighbour_logits(known_ND, label_N, asked_ND, len(splits.labels))
    assert found["neighbours"].numpy() == pytest.approx(expected, abs=1e-3)
    scale = known_ND.std(axis=0) + 1e-6
    fitted = LogisticRegression(C=0.01, max_iter=200).fit(known_ND / scale, label_N)
    assert softmax(found["head"].numpy(), axis=1) == pytest.approx(fitted.predict_proba(asked_ND / scale), abs=0.01)


@pytest.mark.parametrize("why", ["no layer", "memory"])
def test_features_that_are_not_to_be_had_are_left_out_and_said(
    why: str, run: Run, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_layer(*_: object) -> None:
        raise BackboneError("it sees more than one vector of a sample")

    bare = without_controls(run, tmp_path / "run")
    if why == "no layer":
        monkeypatch.setattr(controls, "compute_features", no_layer)
    else:
        settings = {**bare.settings.to_values()}
        rewrite_manifest(bare.path, settings={**settings, "data": {**settings["data"], "memory_gib": 0.0}})
        bare = Run.open_complete(bare.path)
    ask_features(bare, controls_folder(bare.path) / "features", splits, SILENT)
    found = compare_run(bare, splits, train=False)
    assert found.row("nearest neighbours") is None
    assert found.row("class offsets") is not None
    assert any("features are left out" in note for note in found.notes)


def test_what_features_say_costs_a_pass_and_a_search(run: Run, splits: Splits, comparison: Comparison) -> None:
    for name in ("nearest neighbours", "fitted head"):
        assert comparison.row(name).cost.training == pytest.approx(1 + 1 / 12)  # of a base of four epochs
    n_features = len(splits.train) * run.manifest.head.in_features
    near, fitted = comparison.row("nearest neighbours").cost, comparison.row("fitted head").cost
    assert near.storage == pytest.approx(1 + 4 * n_features / run.manifest.files["base.safetensors"].bytes)
    assert near.inference > 1
    head = run.manifest.head
    assert fitted.inference == 1
    n_bytes = run.manifest.files["base.safetensors"].bytes
    assert fitted.storage == pytest.approx(1 + 4 * (head.in_features + 1) * head.out_features / n_bytes)


def test_random_clusters_have_the_runs_sizes(run: Run) -> None:
    random = partition_of(Run.open_complete(controls_folder(run.path) / "random").manifest)
    assert sorted(random.size_S) == sorted(partition_of(run.manifest).size_S)


def test_the_runs_own_row_is_the_runs_own_report(run: Run, comparison: Comparison) -> None:
    test = run.read_json("metrics.json")["test"]
    assert comparison.row("specialists").scores.top1 == pytest.approx(test["ensemble_top1"])
    assert comparison.row("base").scores.top1 == pytest.approx(test["base_top1"])
    assert comparison.row("specialists").cost.inference == pytest.approx(test["mean_passes"], abs=0.05)


def test_weight_average_and_snapshots_are_means_of_the_cycles_written_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against means in double precision; without crops and flips, so that an epoch is all images once."""
    splits = make_splits()
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("controls"))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    manifest["settings"]["data"]["crop_padding"] = 0
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(Run, "forget", lambda *_: None)  # keeps the weights at the cycles' ends
    train_weight_average(Run.open_complete(tmp_path / "run"), tmp_path / "average", splits, SILENT)
    control = Run.open(tmp_path / "average")
    network = coterie.load(tmp_path / "run").base.eval()
    cycles = [control.read_tensors(f"cycles/{cycle}.safetensors") for cycle in range(2)]
    average = control.read_tensors("average.safetensors")
    weights = [name for name, _ in network.named_parameters()]
    for name in weights:
        mean = sum(cycle[name].double() for cycle in cycles) / 2
        torch.testing.assert_close(average[name].double(), mean, rtol=1e-6, atol=1e-7)
        assert not torch.equal(average[name], cycles[1][name])
    # The first norm, measured anew over the training images, under the averaged weights.
    network.load_state_dict(average)
    norm = network.stem[1]
    with torch.no_grad():
        seen = network.stem[0](splits.preprocessing(splits.train.samples.read(torch.arange(len(splits.train)))))
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        norm.running_var, seen.var((0, 2, 3)), rtol=0.05, atol=0
    )  # that of each batch, on average

    def logits(state: dict[str, torch.Tensor], split: Split) -> np.ndarray:
        network.load_state_dict(state)
        with torch.no_grad():
            return network(splits.preprocessing(split.samples.read(torch.arange(len(split))))).double().numpy()

    for name in ("validation", "test"):
        split, stored = getattr(splits, name), control.read_arrays(f"logits/{name}.safetensors")
        np.testing.assert_allclose(stored["logits"], logits(average, split), rtol=1e-4, atol=1e-4)
        each = np.exp([logits(state, split) for state in cycles])
        proba_NC = (each / each.sum(axis=2, keepdims=True)).mean(axis=0)
        np.testing.assert_allclose(np.exp(stored["cycles"]), proba_NC, rtol=1e-4, atol=1e-6)


def test_the_rows_of_weight_average_and_snapshots_are_those_of_their_logits(
    run: Run, splits: Splits, comparison: Comparison
) -> None:
    control = Run.open(controls_folder(run.path) / "weight-average")
    arrays, label_N = control.read_arrays("logits/test.safetensors"), splits.test.labels_N.numpy()
    for name, kept in (("weight average", "logits"), ("snapshots", "cycles")):
        right_N = arrays[kept].argmax(axis=1) == label_N
        assert comparison.row(name).scores.top1 == pytest.approx(right_N.mean())
    assert not any(name.startswith("cycles/") for name in control.manifest.files)


def test_nothing_is_trained_twice(run: Run, splits: Splits, comparison: Comparison) -> None:
    stages = Stages()
    groups = str(run.path.parent / "groups.json")
    again = compare_run(run, splits, superclasses=groups, members=1, progress=stages)
    assert stages.titles == []
    assert again.rows == comparison.rows


def test_flipped_logits_are_those_of_mirrored_images(run: Run, splits: Splits) -> None:
    ensemble = coterie.load(run.path)
    pixels = splits.test.samples.read(torch.arange(len(splits.test)))
    mirrored = Split(MemorySamples(pixels.flip(2)), splits.test.labels_N)
    expected = ensemble.outputs(mirrored.samples, mirrored.labels_N.numpy())
    np.testing.assert_allclose(read_flipped(run, "test").base_NC, expected.base_NC, rtol=1e-5, atol=1e-5)
    assert FlippedImages(splits.test.samples).shape == splits.test.samples.shape


def test_siblings_are_members_without_training(run: Run, splits: Splits, tmp_path: Path) -> None:
    other = make_settings().model_copy(update={"seed": 1})
    coterie.fit(other, tmp_path / "sibling", splits=splits)
    sibling = Run.open_complete(tmp_path / "sibling")
    add_flipped(sibling, splits, SILENT)
    found = contenders_of(run, splits, [sibling])
    pair = next(answer for answer in found.answers if answer.name == "deep ensemble of 2" and not answer.flips)
    first, second = (read_outputs(r, "test").base_NC for r in (run, sibling))
    proba = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (first, second)]
    np.testing.assert_allclose(pair.test_NC, (proba[0] + proba[1]) / 2, rtol=1e-5)


def test_what_is_missing_is_left_out_and_named(tmp_path: Path) -> None:
    splits = make_splits()  # digits and letters: no mirror
    coterie.fit(make_settings(), tmp_path / "run", splits=splits)
    comparison = compare_run(Run.open_complete(tmp_path / "run"), splits, train=False)
    assert [row.name for row in comparison.rows] == [
        "base",
        "base, calibrated",
        "class offsets",
        "specialists",
        "tuned to 1.5 passes",
        "tuned to 2 passes",
    ]
    text = " ".join(comparison.notes)
    assert "Flips are left out" in text
    assert "random clusters: left out, it was not trained" in text
    with pytest.raises(ArtifactError, match="mirrored"):
        read_flipped(Run.open_complete(tmp_path / "run"), "test")


def test_a_control_cut_short_goes_on(run: Run, tmp_path: Path, splits: Splits) -> None:
    class Interrupting(Stages):
        def stage(self, title: str, steps: int) -> None:
            super().stage(title, steps)
            if title.endswith("cycle 2 of 2"):
                raise KeyboardInterrupt

    run = without_controls(run, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        compare_run(run, splits, engine=EngineSettings(workers=1), progress=Interrupting())
    stages = Stages()
    compare_run(run, splits, engine=EngineSettings(workers=1), progress=stages)
    assert [title for title in stages.titles if "cycle" in title] == ["control weight-average: cycle 2 of 2"]


def test_workers_give_the_controls_that_one_process_gives(run: Run, splits: Splits, tmp_path: Path) -> None:
    copied = without_controls(run, tmp_path / "run")
    groups = str(run.path.parent / "groups.json")
    again = compare_run(copied, splits, superclasses=groups, members=1, engine=EngineSettings(workers=2))
    assert weights(controls_folder(copied.path)) == weights(controls_folder(run.path))
    assert again.rows == Comparison.from_values(run.read_json("comparison.json")).rows


def test_a_control_that_fails_is_named_and_loses_none_of_the_others(run: Run, tmp_path: Path, splits: Splits) -> None:
    run = without_controls(run, tmp_path / "run")
    with pytest.raises(CoterieError, match="nowhere"):
        compare_run(run, splits, superclasses="nowhere.json", engine=EngineSettings(workers=1))
    done = {path.name for path in controls_folder(run.path).iterdir() if (path / "metrics.json").exists()}
    assert done == {"all-classes", "random", "confusion"}


def test_why_figures_may_not_hold_is_a_note(run: Run, splits: Splits, tmp_path: Path) -> None:
    copied = without_controls(run, tmp_path / "run")
    copied.update(data=copied.manifest.data.model_copy(update={"perhaps_seen": ("test",)}))
    assert compare_run(copied, splits, train=False).notes[0].startswith("Test is cut from train, and the base came")


def test_shared_samples_are_named_and_refused(run: Run, splits: Splits) -> None:
    pixels = splits.test.samples.read(torch.arange(len(splits.test))).clone()
    pixels[3] = splits.validation.samples.read(torch.tensor([5]))[0]
    pixels[7] = splits.train.samples.read(torch.tensor([2]))[0]
    test = Split(MemorySamples(pixels), splits.test.labels_N)
    sharing = dataclasses.replace(splits, test=test)
    with pytest.raises(DataError, match=r"validation 5 = test 3.*--allow-shared"):
        compare_run(run, sharing, train=False)
    notes = compare_run(run, sharing, train=False, allow_shared=True).notes
    assert any("train 2 = test 7" in note for note in notes)


@pytest.mark.parametrize("together", [True, False])
def test_controls_of_several_partitions_have_the_training_of_all(
    tmp_path: Path, splits: Splits, together: bool
) -> None:
    values = make_settings().to_values()
    both = coterie.FitSettings.from_values({**values, "partition": {"clusters": [3, 2], "together": together}})
    coterie.fit(both, tmp_path / "run", splits=splits)
    compared = compare_run(Run.open_complete(tmp_path / "run"), splits)
    rows = {row.name: row for row in compared.rows if not row.flips}
    assert rows["specialists"].cost.training == pytest.approx(
        1 + 2 * both.specialist.epochs / both.base.epochs, abs=0.1
    )
    for name in ("all-class copy", "weight average", "random clusters"):
        assert rows[name].cost.training == pytest.approx(rows["specialists"].cost.training, abs=0.1)
    copy = Run.open_complete(controls_folder(tmp_path / "run") / "all-classes")
    assert copy.settings.specialist.epochs == 2 * both.specialist.epochs
    drawn = partition_of(Run.open_complete(controls_folder(tmp_path / "run") / "random").manifest)
    kept = partition_of(Run.open(tmp_path / "run").manifest)
    first = [len(kept.classes(cluster)) for cluster in kept.layers[0]]
    assert sorted(drawn.size_S.tolist()) == sorted(first)


@pytest.mark.parametrize("name", ["controls", "controls/all-classes"])
def test_controls_behind_a_link_are_neither_read_nor_trained(
    name: str, finished_run: Path, tmp_path: Path, splits: Splits
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (finished_run / name).parent.mkdir(exist_ok=True)
    (finished_run / name).symlink_to(tmp_path / "elsewhere")
    for train in (True, False):
        with pytest.raises(ArtifactError, match=rf"{name} is a link"):
            compare_run(Run.open_complete(finished_run), splits, train=train)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_controls_log_nothing_where_a_runs_settings_say(finished_run: Path, splits: Splits) -> None:
    values = json.loads((finished_run / "manifest.json").read_text())
    values["settings"]["track"]["mlflow"] = str(finished_run.parent / "elsewhere")
    rewrite_manifest(finished_run, settings=values["settings"])
    tasks = control_tasks(Run.open_complete(finished_run), splits, None, 1)
    logged = [task.settings.track.mlflow for task in tasks if isinstance(task, FitTask)]
    assert logged == [None] * 3


@pytest.mark.parametrize("starts", [True, False])
def test_another_base_starts_where_the_base_did(run: Run, splits: Splits, tmp_path: Path, starts: bool) -> None:
    file = tmp_path / "start.safetensors"
    shutil.copy(run.path / "base.safetensors", file)
    settings = run.settings.model_copy(update={"seed": 7, "init": str(file) if starts else None})
    network = _fresh(run, settings, splits, None).base.network
    trained = run.read_tensors("base.safetensors")
    assert all(torch.equal(tensor, trained[name]) for name, tensor in network.state_dict().items()) is starts
