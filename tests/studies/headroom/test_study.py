"""Runs and files of logits, to headroom in a folder."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file
from scipy.special import softmax

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import CoterieError, DataError, InputError, PartitionError
from coterie.pages.format import percent, points
from coterie.partition import PartitionRequest, make_partition
from coterie.pipeline import prepare as prepare_module
from coterie.progress import SILENT, Progress
from coterie.run.folder import Run
from coterie.run.names import BASE_FILE, base_logits_file
from coterie.run.reporting import read_reports
from coterie.studies.headroom import study as headroom_study
from coterie.studies.headroom.study import HeadroomRequest, read_source, study_headroom, write_study

QUESTION = HeadroomRequest(("spectral", "average"), (2, 3))


def arrays(n_samples: int = 400, n_classes: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for split in ("validation", "test"):
        label_N = rng.integers(n_classes, size=n_samples)
        logits_NC = rng.normal(size=(n_samples, n_classes)).astype(np.float32)
        logits_NC[np.arange(n_samples), label_N] += 2
        logits_NC += 2 * ((np.arange(n_classes) // 2)[None, :] == (label_N // 2)[:, None])
        found |= {f"logits_{split}": logits_NC.astype(np.float32), f"labels_{split}": label_N}
    return found


def write(file: Path, content: dict[str, Any]) -> Path:
    if file.suffix == ".npz":
        np.savez(file, **content)
    elif file.suffix == ".safetensors":
        save_file(content, file)
    else:
        splits = ("validation", "test")
        rows = [row for split in splits for row in content[f"logits_{split}"].tolist()]
        labels = np.concatenate([content[f"labels_{split}"] for split in splits])
        split_N = np.repeat(splits, [len(content[f"labels_{split}"]) for split in splits])
        pyarrow.parquet.write_table(pa.table({"logits": rows, "label": labels, "split": split_N}), file)
    return file


@pytest.mark.parametrize("name", ["some.npz", "some.safetensors", "some.parquet"])
def test_every_format_holds_the_same(tmp_path: Path, name: str) -> None:
    content = arrays()
    source = read_source(write(tmp_path / name, content))
    np.testing.assert_allclose(source.validation.logits_NC, content["logits_validation"], rtol=1e-6)
    np.testing.assert_array_equal(source.test.label_N, content["labels_test"])
    assert source.names == tuple("012345")


def test_logits_alone_give_table_advice_and_clusters(tmp_path: Path) -> None:
    result = study_headroom(read_source(write(tmp_path / "some.npz", arrays())), QUESTION, SILENT)
    write_study(result, tmp_path / "out")
    values = json.loads((tmp_path / "out" / "headroom.json").read_text())
    assert len(values["settings"]) == len(values["costs"]) == 4
    assert values["costs"][0] == {"epochs": 15.0, "seconds": None, "bytes": None}
    assert sorted(set(values["cluster_of_class"])) == list(range(values["advice"]["setting"]["n_clusters"]))
    assert values["test"]["router_accuracy"] > 0.5
    assert values["next_command"] is None
    page = (tmp_path / "out" / "headroom.html").read_text()
    assert page.count("<svg") == 1
    assert page.count("<tr") == 5
    assert "15 ep." in page


def test_labels_may_be_whole_floats_or_names(tmp_path: Path) -> None:
    content = arrays()
    expected = content["labels_validation"]
    floats = {**content, "labels_validation": expected.astype(np.float64)}
    np.testing.assert_array_equal(read_source(write(tmp_path / "a.npz", floats)).validation.label_N, expected)
    names = np.array(["ant", "bee", "cat", "dog", "elk", "fox"])
    texts = {**content, **{f"labels_{s}": names[content[f"labels_{s}"]] for s in ("validation", "test")}}
    file = write(tmp_path / "b.npz", texts)
    (tmp_path / "names.txt").write_text("\n".join(names))
    found = read_source(file, names=str(tmp_path / "names.txt"))
    np.testing.assert_array_equal(found.validation.label_N, expected)
    assert found.names == tuple(names)
    with pytest.raises(InputError, match="are texts"):
        read_source(file)
    (tmp_path / "others.txt").write_text("\n".join(["gnu", *names[1:]]))
    with pytest.raises(InputError, match="not class names: ant"):
        read_source(file, names=str(tmp_path / "others.txt"))
    (tmp_path / "more.txt").write_text("\n".join([*names, "gnu"]))
    with pytest.raises(DataError, match="holds 7 names for 6 classes"):
        read_source(file, names=str(tmp_path / "more.txt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits_validation": np.full((400, 6), 1 / 6)}, "one kind of values for all splits"),
        ({"labels_validation": np.zeros(399, dtype=int)}, "the numbers must be equal"),
        ({"logits_validation": np.full((400, 6), np.nan)}, "must be finite"),
        ({"labels_validation": np.full(400, 6)}, "label 6 is not a class"),
        ({"labels_validation": np.full(400, 1.5)}, "whole numbers"),
        ({"logits_validation": np.zeros((400, 1))}, "C at least 2"),
        ({"logits_validation": np.zeros((400, 6, 1))}, "of shape"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CoterieError, match=message):
        read_source(write(tmp_path / "some.npz", {**arrays(), **change}))


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    with pytest.raises(CoterieError, match="nowhere"):
        read_source(tmp_path / "nowhere.npz")
    with pytest.raises(CoterieError, match="no array logits_validation; it has: x"):
        read_source(write(tmp_path / "some.npz", {"x": np.zeros(3)}))
    with pytest.raises(CoterieError, match=r"not a file of logits; allowed: \.npz, \.safetensors, \.parquet"):
        read_source(tmp_path / "some.pt")
    (tmp_path / "torn.npz").write_bytes(write(tmp_path / "some.npz", arrays()).read_bytes()[:500])
    with pytest.raises(CoterieError, match=r"cannot read .*torn\.npz"):
        read_source(tmp_path / "torn.npz")
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(CoterieError, match=r"cannot read .*torn\.safetensors"):
        read_source(tmp_path / "torn.safetensors")


def test_questions_that_the_classes_do_not_allow(tmp_path: Path) -> None:
    source = read_source(write(tmp_path / "some.npz", arrays()))
    with pytest.raises(PartitionError, match=r"cannot try \[7\] clusters of 6 classes; allowed: 1 to 6"):
        study_headroom(source, HeadroomRequest(clusters=(7,)), SILENT)
    with pytest.raises(PartitionError, match="given needs --groups"):
        study_headroom(source, HeadroomRequest(("given",), (2,)), SILENT)
    two = read_source(write(tmp_path / "two.npz", arrays(n_classes=2)))
    with pytest.raises(PartitionError, match="2 classes cannot be grouped"):
        study_headroom(two, QUESTION, SILENT)


def test_given_groups_are_a_method(tmp_path: Path) -> None:
    (tmp_path / "groups.txt").write_text("a\na\nb\nb\nc\nc")
    source = read_source(write(tmp_path / "some.npz", arrays()), groups=str(tmp_path / "groups.txt"))
    result = study_headroom(source, HeadroomRequest(("average", "given"), (2,)), SILENT)
    given = next(s for s in result.headroom.settings if s.method == "given")
    assert (given.n_clusters, given.largest) == (3, 2)


class Stop(Progress):
    """Ctrl-C when the first specialist begins."""

    def stage(self, title: str, steps: int) -> None:
        if title.startswith("specialist"):
            raise KeyboardInterrupt


def test_a_run_whose_base_is_trained_is_enough(
    tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(settings, tmp_path / "run", splits=splits, progress=Stop())
    run = Run.open(tmp_path / "run")
    assert run.has(base_logits_file("validation"))
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    result = study_headroom(read_source(tmp_path / "run"), QUESTION, SILENT)
    assert result.source.validation.n_samples == len(splits.validation)
    assert result.source.test is None
    assert "measured" not in result.headroom.advice.reasons[0]
    cost = result.costs[0]
    per_epoch = run.manifest.seconds[BASE_FILE] / settings.base.epochs
    assert cost.seconds == pytest.approx(per_epoch * settings.specialist.epochs * cost.epochs / 2)
    assert cost.bytes == run.manifest.files[BASE_FILE].bytes * result.headroom.settings[0].n_specialists
    assert {file: file.read_bytes() for file in before} == before
    # Without the stored logits the network is run on the run's data.
    run.forget([base_logits_file("validation")])
    monkeypatch.setattr(prepare_module, "load_data", lambda *_: splits)
    again = read_source(tmp_path / "run")
    np.testing.assert_allclose(again.validation.logits_NC, result.source.validation.logits_NC, atol=1e-5)


def test_the_next_command_trains_the_advised_setting_on_the_same_base(
    tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coterie.cli import main

    coterie.fit(settings, tmp_path / "run", splits=splits)
    question = HeadroomRequest(("average",), (2,), asked=1e-6)
    result = study_headroom(read_source(tmp_path / "run"), question, SILENT)
    reached = f"The run's own specialists have gained {points(read_reports(Run.open(tmp_path / 'run'))['test'].gain)} "
    assert result.headroom.advice.reasons[0].startswith(reached)
    command = headroom_study.next_command(result.source, result.headroom.partition, "average")
    words = shlex.split(command)
    assert words[:2] == ["coterie", "fit"]
    monkeypatch.setattr(prepare_module, "load_data", lambda *_: splits)
    assert main(words[1:]) == 0
    new = Run.open_complete(tmp_path / "run-average-2")
    assert len(new.manifest.partition.members) == 2
    assert new.read(BASE_FILE) == Run.open(tmp_path / "run").read(BASE_FILE)
    made = [tuple(result.headroom.partition.classes(k).tolist()) for k in range(2)]
    assert list(new.manifest.partition.members) == made


def test_a_run_without_a_base_is_refused(tmp_path: Path, settings: FitSettings) -> None:
    Run.create_or_resume(tmp_path / "run", settings).update()
    with pytest.raises(CoterieError, match="no trained base yet"):
        read_source(tmp_path / "run")


@pytest.mark.parametrize(("training", "said"), [(0.5, True), (0.99, False), (None, False)])
def test_a_base_that_is_still_learning_is_said_to(tmp_path: Path, training: float | None, said: bool) -> None:
    source = read_source(write(tmp_path / "some.npz", arrays()))
    result = study_headroom(dataclasses.replace(source, training_accuracy=training), QUESTION, SILENT)
    write_study(result, tmp_path / "out")
    assert ("still learning" in (tmp_path / "out" / "headroom.html").read_text()) == said
    assert (result.to_values()["caution"] is not None) == said


@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_where_most_errors_lie_outside_the_likeliest_cluster_no_partition_is_advised(
    spread: float, tmp_path: Path
) -> None:
    """Of a base that knows little, fit trains one specialist of all classes by itself."""
    content = arrays(n_samples=4000, n_classes=24)
    rng = np.random.default_rng(1)
    for split in ("validation", "test"):
        shape = content[f"logits_{split}"].shape
        content[f"logits_{split}"] += (spread * rng.normal(size=shape)).astype(np.float32)
    source = dataclasses.replace(read_source(write(tmp_path / "some.npz", content)), run=tmp_path / "run")
    result = study_headroom(source, HeadroomRequest(asked=0.1), SILENT)
    likeliest = make_partition(PartitionRequest("spectral", 9), source.vectors_CD, None, None)
    mass_NS = likeliest.mass_NS(softmax(source.validation.logits_NC, axis=1))
    wrong_N = source.validation.logits_NC.argmax(1) != source.validation.label_N
    inside_N = mass_NS.argmax(1) == likeliest.cluster_of_class_C[source.validation.label_N]
    share = inside_N[wrong_N].mean()
    assert result.headroom.advice.train
    assert result.next_command is not None
    assert (share < 0.5) == (spread > 1)
    said = f"Of the errors {percent(share, 0)} lie inside the likeliest of 9 clusters"
    assert any(said in reason for reason in result.headroom.advice.reasons) == (share < 0.5)
    assert ("--partition" in result.next_command) == (share >= 0.5)
    # Who names a number of clusters gets it.
    asked = study_headroom(source, HeadroomRequest(clusters=(2, 3)), SILENT)
    assert asked.next_command is None or "--partition.clusters" in asked.next_command


def test_no_more_is_forecast_to_be_routed_than_passes_allow(tmp_path: Path) -> None:
    """Of logits alone as `coterie fit` would by itself: 1.5 passes are half of the samples."""
    source = read_source(write(tmp_path / "some.npz", arrays()))
    assert source.most_routed == 0.5
    freely = dataclasses.replace(source, most_routed=1.0)
    for settings, most in (
        (study_headroom(source, QUESTION, SILENT), 0.5),
        (study_headroom(freely, QUESTION, SILENT), 1),
    ):
        assert all(setting.routed <= most for setting in settings.headroom.settings)
        assert settings.test is not None
        assert settings.test.routed <= most
    assert max(setting.routed for setting in study_headroom(freely, QUESTION, SILENT).headroom.settings) > 0.5
