"""Runs changed in part: one tiny run, made once; further images show the same patterns."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import ArtifactError, BackboneError, DataError, PartitionError
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.partition.embedding import LabelEmbedding
from coterie.pipeline import prepare, revise
from coterie.progress import SILENT, Progress
from coterie.run.folder import Run
from coterie.run.names import BASE_FILE, EXAMPLES_FILE
from coterie.run.reporting import read_outputs, read_reports
from coterie.run.values import partition_of
from coterie.system.lock import HOLDER
from helpers import make_splits

N_KNOWN = 7
NEW = "class 7"


@pytest.fixture(scope="module")
def known() -> Splits:
    """Seven of the eight classes."""
    splits = make_splits()
    parts = {name: getattr(splits, name).of_classes(np.arange(N_KNOWN)) for name in ("train", "validation", "test")}
    labels = LabelSpace(splits.labels.names[:N_KNOWN])
    return dataclasses.replace(splits, labels=labels, **parts)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, known: Splits) -> Run:
    training = {"epochs": 2, "batch_size": 32, "learning_rate": 0.05}
    settings = FitSettings.from_values(
        {
            "backbone": "convnet-8",
            "base": {**training, "epochs": 4},
            "specialist": training,
            "partition": {"clusters": [3]},
            # Whatever the samples of validation say, some are routed.
            "gate": {"score": "entropy", "combiner": "hard", "top": 1},
            "data": {"crop_padding": 1},
            "hardware": {"accelerator": "cpu", "precision": "fp32", "threads": 1},
        }
    )
    path = tmp_path_factory.mktemp("runs") / "run"
    coterie.fit(settings.all_given(), path, splits=known)
    return Run.open_complete(path)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, known: Splits) -> Splits:
    """The run's own data source gives the splits that it was trained on."""
    monkeypatch.setattr(prepare, "load_data", lambda settings, seed, preprocessing: known)
    return known


def write_images(folder: Path, *classes: int) -> str:
    """A folder per class, of images that no split has."""
    split = make_splits(n_per_class=20).train
    for k in classes:
        (folder / f"class {k}").mkdir(parents=True)
        for row in torch.nonzero(split.labels_N == k).ravel().tolist():
            pixels = split.samples.read(torch.tensor([row]))[0, :, :, 0].numpy()
            Image.fromarray(pixels).save(folder / f"class {k}" / f"{row}.png")
    return f"folder:{folder}"


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def a_cluster(run: Run) -> int:
    return int(np.argmax(partition_of(run.manifest).size_S))


def test_refit_trains_one_specialist_and_copies_the_rest(run: Run, data: Splits, tmp_path: Path) -> None:
    before = contents(run.path)
    cluster = a_cluster(run)
    classes = partition_of(run.manifest).classes(cluster).tolist()
    source = write_images(tmp_path / "more", *classes[:2])
    revise.refit(run.path, cluster, source, tmp_path / "new")
    assert contents(run.path) == before
    new = Run.open_complete(tmp_path / "new")
    changed = {name for name in before if name.endswith("safetensors") and "logits" not in name} - {
        name for name, content in contents(new.path).items() if before.get(name) == content
    }
    assert changed == {f"specialists/3/{cluster}.safetensors", EXAMPLES_FILE}
    assert [(c.kind, c.cluster, c.source) for c in new.manifest.changes] == [("refit", cluster, source)]
    # A fifth of the further images is judged, and the gate is chosen on another fifth.
    assert read_reports(new)["test"].n_samples > len(data.test)
    assert len(read_outputs(new, "validation").label_N) > len(data.validation)
    loaded = coterie.load(new.path)
    assert loaded.predict(data.test.samples).shape == (len(data.test),)


def test_refit_further_starts_from_the_specialist_and_anew_from_the_base(
    run: Run, data: Splits, tmp_path: Path
) -> None:
    """Seen at a learning rate so small that weights stay where they start."""
    cluster = a_cluster(run)
    source = write_images(tmp_path / "more", int(partition_of(run.manifest).classes(cluster)[0]))
    shutil.copytree(run.path, tmp_path / "slow")
    manifest = json.loads((tmp_path / "slow" / "manifest.json").read_text())
    manifest["settings"]["specialist"]["learning_rate"] = 1e-12
    (tmp_path / "slow" / "manifest.json").write_text(json.dumps(manifest))
    old = coterie.load(run.path)
    specialist = dict(old.specialists[str(cluster)].named_parameters())
    base = dict(old.base.named_parameters())
    started = {
        further: dict(
            revise.refit(tmp_path / "slow", cluster, source, tmp_path / f"new-{further}", further=further)
            .specialists[str(cluster)]
            .named_parameters()
        )
        for further in (True, False)
    }
    body = [name for name in base if not name.startswith("head")]
    assert body
    for name in body:
        torch.testing.assert_close(started[True][name], specialist[name], rtol=0, atol=1e-7)
        torch.testing.assert_close(started[False][name], base[name], rtol=0, atol=1e-7)
    assert max((specialist[name] - base[name]).abs().max() for name in body) > 1e-3  # which are not the same
    # The head too: of the specialist, and of the base the rows of the cluster's classes.
    rows = torch.from_numpy(partition_of(run.manifest).classes(cluster))
    torch.testing.assert_close(started[True]["head.weight"], specialist["head.weight"], rtol=0, atol=1e-7)
    torch.testing.assert_close(started[False]["head.weight"], base["head.weight"][rows], rtol=0, atol=1e-7)


def test_refit_further_trains(run: Run, data: Splits, tmp_path: Path) -> None:
    cluster = a_cluster(run)
    source = write_images(tmp_path / "more", int(partition_of(run.manifest).classes(cluster)[0]))
    file = f"specialists/3/{cluster}.safetensors"
    revise.refit(run.path, cluster, source, tmp_path / "further", further=True)
    before, after = (Run.open(path).read_tensors(file) for path in (run.path, tmp_path / "further"))
    assert max((after[name] - before[name]).abs().max() for name in before if name.endswith("weight")) > 1e-3


def test_adapters_are_refitted_beside_the_base_and_further_ones_beside_the_specialist(
    run: Run, data: Splits, tmp_path: Path
) -> None:
    values = run.manifest.settings.to_values()
    settings = FitSettings.from_values({**values, "specialist": {**values["specialist"], "trainable": "lora-2"}})
    coterie.fit(settings, tmp_path / "lora", splits=data, base_run=run.path)
    cluster = a_cluster(run)
    source = write_images(tmp_path / "more", int(partition_of(run.manifest).classes(cluster)[0]))
    file, matrix = f"specialists/3/{cluster}.safetensors", "stage3.0.0.weight"
    kept, answers = {}, {}
    for out, further in (("anew", False), ("further", True)):
        changed = revise.refit(tmp_path / "lora", cluster, source, tmp_path / out, further=further)
        kept[out] = Run.open(tmp_path / out).read_tensors(file)
        answers[out] = changed.specialists[str(cluster)].state_dict()[matrix]
    assert matrix not in kept["anew"]
    before = Run.open(tmp_path / "lora").read_tensors(file)
    first = before[f"{matrix}:up"] @ before[f"{matrix}:down"]
    # Of further adapters, beside other weights than the base's, the matrix is kept: two ranks and two.
    base = run.read_tensors(BASE_FILE)[matrix]
    beyond = (kept["further"][matrix] - base).flatten(1)
    assert torch.linalg.matrix_rank(beyond, rtol=1e-4) <= 4
    assert torch.linalg.matrix_rank(beyond - first, rtol=1e-4) <= 2
    assert not torch.equal(answers["anew"], answers["further"])


def test_an_added_class_is_learned_and_the_others_keep_their_answers(run: Run, data: Splits, tmp_path: Path) -> None:
    before = contents(run.path)
    ensemble = revise.add_class(run.path, NEW, write_images(tmp_path / "more", 7), tmp_path / "new")
    assert contents(run.path) == before
    new = Run.open_complete(tmp_path / "new")
    assert new.manifest.data.classes == (*data.labels.names, NEW)
    old = coterie.load(run.path)
    images = data.test.samples
    old_NC, new_NC = (model.decide(images).base_logits_NC for model in (old, ensemble))
    np.testing.assert_allclose(new_NC[:, :N_KNOWN], old_NC, atol=1e-6)
    partition, old_partition = partition_of(new.manifest), partition_of(run.manifest)
    grown = [k for k in range(3) if partition.size_S[k] != old_partition.size_S[k]]
    assert grown == [int(partition.cluster_of_class_C[N_KNOWN])]
    assert partition.classes(grown[0]).tolist() == [*old_partition.classes(grown[0]).tolist(), N_KNOWN]
    for cluster in {0, 1, 2} - set(grown):
        file = f"specialists/3/{cluster}.safetensors"
        if file in before:
            assert new.read(file) == before[file]
    # Fresh images of the new class are known far more often than by chance (an eighth); few old answers change.
    fresh = make_splits(n_per_class=40).train.of_classes(np.array([7]))
    assert (ensemble.predict(fresh.samples) == N_KNOWN).mean() > 0.3
    kept = ensemble.predict(images) == old.predict(images)
    assert kept.mean() > 0.8
    assert "add-class" in [change.kind for change in new.manifest.changes]


def test_an_interrupted_change_goes_on(run: Run, data: Splits, tmp_path: Path) -> None:
    class Interrupting(Progress):
        def stage(self, title: str, steps: int) -> None:
            if title == "evaluation":
                raise KeyboardInterrupt

    source = write_images(tmp_path / "more", 7)
    with pytest.raises(KeyboardInterrupt):
        revise.add_class(run.path, NEW, source, tmp_path / "new", progress=Interrupting())
    weights = contents(tmp_path / "new")["base.safetensors"]
    revise.add_class(run.path, NEW, source, tmp_path / "new")
    assert contents(tmp_path / "new")["base.safetensors"] == weights
    assert Run.open_complete(tmp_path / "new").manifest.changes[0].class_name == NEW


@pytest.mark.parametrize("change", ["refit", "add-class"])
def test_a_second_process_on_the_new_run_is_told_who_holds_it(
    change: str, run: Run, data: Splits, tmp_path: Path
) -> None:
    cluster, out = a_cluster(run), tmp_path / "new"
    inside = int(partition_of(run.manifest).classes(cluster)[0])
    source = write_images(tmp_path / "more", inside, 7)

    def begin(progress: Progress) -> None:
        if change == "refit":
            shutil.rmtree(tmp_path / "more" / NEW, ignore_errors=True)
            revise.refit(run.path, cluster, source, out, progress=progress)
        else:
            revise.add_class(run.path, NEW, source, out, progress=progress)

    class Second(Progress):
        told: list[str]

        def stage(self, title: str, steps: int) -> None:
            with pytest.raises(ArtifactError, match=f"is being written by process {os.getpid()} on") as refused:
                begin(SILENT)
            self.told.append(str(refused.value))

    second = Second()
    second.told = []
    begin(second)
    assert second.told
    assert Run.open_complete(out)
    assert not (out / HOLDER).exists()


def test_the_nearest_cluster_is_the_most_alike_on_average() -> None:
    vectors_CD = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [0.5, 0.5], [-0.1, 1]])
    first, second = (Partition.from_assignment(cluster_C) for cluster_C in ([0, 0, 1, 0], [0, 1, 1, 1]))
    assert revise.nearest_clusters(LabelEmbedding(vectors_CD), first) == [1]
    assert revise.nearest_clusters(LabelEmbedding(vectors_CD), Partition.stack([first, second])) == [1, 3]


def test_the_fitted_row_is_scikit_learns_logistic_regression_where_the_others_are_even() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    feature_ND = rng.normal(size=(200, 3)).astype(np.float32)
    is_new_N = feature_ND @ [1.0, -2.0, 0.5] + rng.normal(size=200) > 0.5
    # One other class whose logit is always 0: then this is plain logistic regression, with the same penalty.
    row_D, bias = revise.fit_row(
        torch.from_numpy(feature_ND), torch.zeros(200, 1), torch.from_numpy(is_new_N), torch.zeros(3)
    )
    peer = LogisticRegression(C=1 / (2 * revise.ROW_DECAY * 200), tol=1e-8, max_iter=1000).fit(feature_ND, is_new_N)
    np.testing.assert_allclose(row_D.numpy(), peer.coef_[0], rtol=0.01)
    assert bias == pytest.approx(peer.intercept_[0], rel=0.02)


def test_wrong_wishes_are_named(run: Run, data: Splits, tmp_path: Path) -> None:
    cluster = a_cluster(run)
    inside = partition_of(run.manifest).classes(cluster).tolist()
    outside = next(k for k in range(N_KNOWN) if k not in inside)
    foreign = write_images(tmp_path / "foreign", outside)
    out = tmp_path / "out"
    with pytest.raises(PartitionError, match="no cluster 9; allowed: 0 to 2"):
        revise.refit(run.path, 9, foreign, out)
    with pytest.raises(DataError, match=f"not in cluster {cluster}: class {outside}"):
        revise.refit(run.path, cluster, foreign, out)
    with pytest.raises(DataError, match="'class 0' already"):
        revise.add_class(run.path, "class 0", foreign, out)
    with pytest.raises(DataError, match="no samples of class 'zebra'"):
        revise.add_class(run.path, "zebra", foreign, out)
    with pytest.raises(DataError, match="is not a folder"):
        revise.add_class(run.path, "zebra", "folder:/nowhere", out)
    with pytest.raises(
        DataError, match=r"'glyphs' is not allowed here; allowed: folder:DIR, parquet:DIR, csv:FILE, .*hub:NAME"
    ):
        revise.add_class(run.path, "zebra", "glyphs", out)
    with pytest.raises(ArtifactError, match="is the run itself"):
        revise.refit(run.path, cluster, foreign, run.path)
    with pytest.raises(ArtifactError, match="is not a coterie run"):
        revise.refit(tmp_path / "foreign", cluster, foreign, out)


def test_too_few_images_of_a_new_class(run: Run, data: Splits, tmp_path: Path) -> None:
    source = write_images(tmp_path / "more", 7)
    for file in sorted((tmp_path / "more" / NEW).iterdir())[2:]:
        file.unlink()
    with pytest.raises(DataError, match=r"at least 3 samples of a class are needed.*class 7 \(2\)"):
        revise.add_class(run.path, NEW, source, tmp_path / "new")


def test_a_base_that_cannot_be_built_wider_is_refused(run: Run, data: Splits, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "brought")
    brought = Run.open(tmp_path / "brought")
    brought.update(settings=brought.settings.model_copy(update={"backbone": "python:some.Network"}))
    with pytest.raises(BackboneError, match=r"cannot build python:some\.Network with one class more"):
        revise.add_class(brought.path, NEW, "folder:anything", tmp_path / "new")
