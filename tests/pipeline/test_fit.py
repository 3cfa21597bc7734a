import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import coterie
from coterie.backbones.cut import trunk_features
from coterie.backbones.specialist import make_specialist
from coterie.config import FitSettings, GateSettings
from coterie.data.splits import Split, Splits
from coterie.errors import ArtifactError, BackboneError, EngineError, PartitionError, SettingsError, TrainingError
from coterie.partition import Partition
from coterie.pipeline import fit as pipeline
from coterie.pipeline import partitions, plan
from coterie.pipeline.plan import make_plan
from coterie.pipeline.prepare import prepare
from coterie.pipeline.specialists import moments_of
from coterie.pipeline.tuning import tuning_request
from coterie.progress import Progress
from coterie.routing.evaluation import evaluate
from coterie.routing.gate import Gate
from coterie.routing.rule import Rule
from coterie.run.folder import Run
from coterie.run.load import load_ensemble
from coterie.run.names import BASE_FILE, specialist_files
from coterie.run.reporting import read_outputs, read_reports, retune, write_outputs, write_report
from coterie.run.values import partition_of, rule_of, train_counts_of
from coterie.training.fabric import make_fabric
from coterie.training.passes import compute_logits
from helpers import changed, make_split, make_splits, weights

pytestmark = pytest.mark.slow


class Interrupting(Progress):
    """Ctrl-C in a stage, after so many steps."""

    def __init__(self, title: str, after: int = 0) -> None:
        self.title, self.after, self.stages, self.steps = title, after, [], 0

    def stage(self, title: str, steps: int) -> None:
        self.stages.append(title)
        self.steps = 0

    def advance(self, steps, n_images=0, loss=None, accuracy=None) -> None:
        self.steps += steps
        if self.stages[-1] == self.title and self.steps > self.after:
            raise KeyboardInterrupt


@pytest.fixture
def run(finished_run: Path) -> Run:
    return Run.open_complete(finished_run)


@pytest.mark.parametrize("trainable", ["all", "stage3"])
def test_every_stage_ends_at_the_step_that_it_promised(
    tmp_path: Path, settings: FitSettings, splits: Splits, trainable: str
) -> None:
    class Counting(Progress):
        def __init__(self) -> None:
            self.promised: list[tuple[str, int]] = []
            self.done: list[int] = []

        def stage(self, title: str, steps: int) -> None:
            self.promised.append((title, steps))
            self.done.append(0)

        def advance(self, steps, n_images=0, loss=None, accuracy=None) -> None:
            self.done[-1] += steps

    told = Counting()
    coterie.fit(tails(settings, trainable=trainable), tmp_path / "run", splits=splits, progress=told)
    assert told.done == [steps for _, steps in told.promised]
    assert {"base", "base on validation", "validation", "evaluation"} <= {title for title, _ in told.promised}


def test_fit_leaves_a_run_that_describes_itself(run: Run, splits: Splits) -> None:
    manifest = run.manifest
    assert manifest.complete
    assert sorted(k for members in manifest.partition.members for k in members) == list(range(8))
    assert manifest.data.classes == splits.labels.names
    on_disk = {str(f.relative_to(run.path)) for f in run.path.rglob("*") if f.is_file()} - {"manifest.json", ".lock"}
    assert {name for name in on_disk if not name.startswith("logs/")} == set(manifest.files)
    assert {
        "base.safetensors",
        "report.html",
        "metrics.json",
        "history.json",
        "logits/validation.safetensors",
    } <= on_disk
    history = run.read_json("history.json")
    assert len(history["base"]) == 4
    assert history["base"][-1]["loss"] < history["base"][0]["loss"]


def test_a_loaded_ensemble_predicts_what_the_fitted_one_did_bit_for_bit(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    fitted = coterie.fit(settings, tmp_path / "run", splits=splits)
    loaded = coterie.load(tmp_path / "run")
    np.testing.assert_array_equal(fitted.predict_proba(splits.test.samples), loaded.predict_proba(splits.test.samples))


def test_the_reported_accuracy_is_that_of_predict(run: Run, splits: Splits) -> None:
    ensemble = coterie.load(run.path)
    right = ensemble.predict(splits.test.samples) == splits.test.labels_N.numpy()
    report = read_reports(run)["test"]
    assert report.ensemble_top1 == pytest.approx(right.mean())
    assert report.base_top1 > 0.4  # of 8 classes


def test_stored_logits_give_the_stored_figures_again(run: Run) -> None:
    for split, report in read_reports(run).items():
        outputs = read_outputs(run, split)
        manifest = run.manifest
        counts = train_counts_of(manifest)
        again = evaluate(outputs, partition_of(manifest), rule_of(manifest), counts)
        assert again == report


def test_the_threshold_is_the_best_on_validation(
    run: Run, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    # One rule, of which nothing but the threshold is to be chosen.
    paper = changed(settings, gate={"score": "entropy", "combiner": "hard", "top": 1, "passes": None})
    coterie.fit(paper, tmp_path / "paper", splits=splits, base_run=run.path)
    validation = read_reports(Run.open_complete(tmp_path / "paper"))["validation"]
    assert validation.ensemble_top1 == pytest.approx(max(validation.curve.accuracy), abs=1e-12)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    run: Run, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    coterie.fit(settings, tmp_path / "again", splits=splits)
    assert weights(run.path) == weights(tmp_path / "again")
    assert (run.path / "metrics.json").read_bytes() == (tmp_path / "again" / "metrics.json").read_bytes()
    coterie.fit(changed(settings, seed=1), tmp_path / "other", splits=splits)
    assert weights(run.path)["base.safetensors"] != weights(tmp_path / "other")["base.safetensors"]


@pytest.mark.parametrize("stage", ["base", "specialist 1 of 3", "evaluation"])
def test_an_interrupted_run_goes_on_after_its_last_finished_stage_and_ends_the_same(
    stage: str, run: Run, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    path = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(settings, path, splits=splits, progress=Interrupting(stage))
    assert not Run.open(path).manifest.complete
    kept = weights(path)
    again = Interrupting("none")
    coterie.fit(settings, path, splits=splits, progress=again)
    # What was asked of validation samples is read.
    assert next(title for title in again.stages if title != "validation") == stage
    assert weights(path) == weights(run.path)
    finished = {name: content for name, content in kept.items() if "stages" not in name}
    assert finished.items() <= weights(path).items()


@pytest.mark.parametrize(
    ("optimizer", "schedule", "every"),
    [("sgd", "one-cycle", None), ("sgd", "cosine", 5), ("adamw", "one-cycle", 5), ("adamw", "cosine", None)],
)
def test_a_training_that_is_cut_ends_with_the_same_bits(
    optimizer: str, schedule: str, every: int | None, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    base = {**settings.base.model_dump(), "optimizer": optimizer, "schedule": schedule}
    ours = changed(settings, base=base, backbone="timm:test_resnet", checkpoint_every=every)
    coterie.fit(ours, tmp_path / "whole", splits=splits)
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(ours, tmp_path / "cut", splits=splits, progress=Interrupting("base", after=2 * 6))
    assert (tmp_path / "cut" / "checkpoint" / "base.safetensors").exists()
    again = Interrupting("none")
    coterie.fit(ours, tmp_path / "cut", splits=splits, progress=again)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    for name in ("metrics.json", "history.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_run_is_loaded_and_not_trained_again(run: Run, settings: FitSettings, splits: Splits) -> None:
    progress = Interrupting("none")
    coterie.fit(settings, run.path, splits=splits, progress=progress)
    assert progress.stages == []


def test_a_base_is_trained_once_for_several_runs(
    run: Run, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    # How a run goes is free to differ.
    data = {**settings.to_values()["data"], "memory_gib": 1.0}
    other = changed(settings, partition={**settings.to_values()["partition"], "clusters": (2,)}, data=data)
    progress = Interrupting("never")
    coterie.fit(other, tmp_path / "other", splits=splits, base_run=run.path, progress=progress)
    assert "base" not in progress.stages
    assert Run.open_complete(tmp_path / "other").read("base.safetensors") == run.read("base.safetensors")
    with pytest.raises(ArtifactError, match="seed: 0 -> 1"):
        coterie.fit(changed(settings, seed=1), tmp_path / "third", splits=splits, base_run=run.path)


def test_other_settings_or_other_data_do_not_touch_a_run(
    run: Run, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    with pytest.raises(ArtifactError, match="holds another run; its settings differ in seed: 0 -> 5"):
        coterie.fit(changed(settings, seed=5), run.path, splits=splits)
    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(settings, cut, splits=splits, progress=Interrupting("base"))
    with pytest.raises(ArtifactError, match="has changed since"):
        coterie.fit(settings, cut, splits=make_splits(n_classes=6))
    fewer = Split(splits.test.samples.take(torch.arange(len(splits.test) - 1)), splits.test.labels_N[:-1])
    with pytest.raises(ArtifactError, match="has changed since"):
        coterie.fit(settings, cut, splits=dataclasses.replace(splits, test=fewer))


def test_a_run_goes_on_where_another_version_describes_its_data(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(settings, tmp_path / "cut", splits=splits, progress=Interrupting("base"))
    coterie.fit(settings, tmp_path / "cut", splits=dataclasses.replace(splits, about="In other words."))
    assert Run.open_complete(tmp_path / "cut").manifest.data.about == "In other words."


def test_of_several_numbers_of_clusters_the_best_on_validation_is_kept(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    several = changed(settings, partition={"clusters": [2, 4]})
    ensemble = coterie.fit(several, tmp_path / "run", splits=splits)
    manifest = Run.open_complete(tmp_path / "run").manifest
    candidates = manifest.partition.candidates
    best = max(candidates, key=lambda candidate: candidate.accuracy)
    assert [c.clusters for c in candidates] == [2, 4]
    assert ensemble.partition.n_clusters == best.clusters
    assert {path.name for path in (tmp_path / "run" / "specialists").iterdir() if any(path.iterdir())} == {
        str(best.clusters)
    }
    trained = [seconds for name, seconds in manifest.seconds.items() if name != "base.safetensors"]
    assert len(trained) == 6
    assert manifest.costs.specialist_seconds == pytest.approx(sum(trained))
    assert "Training of the specialists of all numbers of clusters" in (tmp_path / "run" / "report.html").read_text()


def test_numbers_of_clusters_that_come_to_the_same_are_trained_once(
    tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch
) -> None:
    # As a limit of size may have it: whatever number is asked for, two clusters come out, not always the same ones.
    made = iter([Partition.from_assignment([0, 1] * 4), Partition.from_assignment([0] * 4 + [1] * 4)])
    monkeypatch.setattr(partitions, "make_partition", lambda *_: next(made))
    progress = Interrupting("none")
    several = changed(settings, partition={"clusters": [3, 4]})
    fitted = coterie.fit(several, tmp_path / "run", splits=splits, progress=progress)
    begun = ["base", "base on validation"]
    assert progress.stages == [*begun, "specialist 0 of 2", "specialist 1 of 2", "validation", "evaluation"]
    loaded = coterie.load(tmp_path / "run")
    assert loaded.partition.classes(0).tolist() == [0, 2, 4, 6]
    np.testing.assert_array_equal(fitted.predict_proba(splits.test.samples), loaded.predict_proba(splits.test.samples))


@pytest.mark.parametrize("n_clusters", [1, 8])
def test_one_cluster_and_one_class_a_cluster(
    n_clusters: int, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    ensemble = coterie.fit(changed(settings, partition={"clusters": [n_clusters]}), tmp_path / "run", splits=splits)
    assert len(ensemble.specialists) == (1 if n_clusters == 1 else 0)
    report = read_reports(Run.open_complete(tmp_path / "run"))["test"]
    assert len(report.clusters) == n_clusters
    if n_clusters == 8:  # a cluster of one class answers what the base would have answered, at no cost
        assert report.mean_passes == 1


def test_no_choice_depends_on_the_test_images(run: Run, tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    strange = dataclasses.replace(splits, test=make_split(5, 8, seed=99))
    coterie.fit(settings, tmp_path / "strange", splits=strange)
    other = Run.open_complete(tmp_path / "strange")
    assert other.manifest.gate == run.manifest.gate
    assert other.manifest.partition == run.manifest.partition
    assert read_reports(other)["validation"] == read_reports(run)["validation"]
    trained = {name: content for name, content in weights(run.path).items() if "logits" not in name}
    assert {name: trained[name] for name in trained if name != "examples.safetensors"}.items() <= weights(
        other.path
    ).items()
    assert read_reports(other)["test"] != read_reports(run)["test"]


def test_a_tuned_run_predicts_what_its_figures_say(run: Run, splits: Splits) -> None:
    gate = GateSettings(combiner="average", score="contested", top=2)
    tuning, figures = retune(run, tuning_request(gate))
    ensemble = coterie.load(run.path)
    assert ensemble.rule == tuning.rule
    right = ensemble.predict(splits.test.samples) == splits.test.labels_N.numpy()
    assert read_reports(run)["test"] == figures
    assert figures.ensemble_top1 == pytest.approx(right.mean())
    assert run.manifest.gate.accuracy == tuning.accuracy
    assert run.manifest.costs.ensemble_image_ms is None
    assert Run.open_complete(run.path).manifest.gate == run.manifest.gate


def test_tuning_reads_no_test_image(run: Run) -> None:
    request = tuning_request(GateSettings(combiner="blend"))
    first, _ = retune(run, request)
    test = read_outputs(run, "test")
    write_outputs(run, "test", test.take(np.random.default_rng(0).permutation(len(test.label_N))))
    assert retune(run, request)[0].rule == first.rule


def test_a_run_of_an_earlier_version_has_the_papers_rule(run: Run, splits: Splits) -> None:
    file = run.path / "manifest.json"
    values = json.loads(file.read_text())
    values["gate"] = {"score": "entropy", "combiner": "hard", "threshold": 1.1}
    values["settings"]["gate"] = dict(values["gate"])
    file.write_text(json.dumps(values))
    ensemble = coterie.load(run.path)
    assert ensemble.rule == Rule(Gate(1.1))
    write_report(Run.open_complete(run.path), "2026-01-01")
    assert ensemble.decide(splits.test.samples).proba_NC.shape == (64, 8)


def test_a_given_threshold_is_kept_and_nothing_routed_gives_the_base(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    ensemble = coterie.fit(
        changed(settings, gate={"score": "entropy", "threshold": 1e6}), tmp_path / "run", splits=splits
    )
    decision = ensemble.decide(splits.test.samples)
    assert not decision.routed_N.any()
    logits = torch.from_numpy(decision.base_logits_NC)
    np.testing.assert_allclose(decision.proba_NC, logits.softmax(1).numpy(), rtol=1e-5)


def test_settings_that_cannot_work_stop_before_training_and_leave_nothing(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    with pytest.raises(PartitionError, match="9 clusters of 8 classes; allowed: 1 to 8"):
        coterie.fit(changed(settings, partition={"clusters": [9]}), tmp_path / "run", splits=splits)
    with pytest.raises(BackboneError, match="unknown backbone"):
        coterie.fit(changed(settings, backbone="resnet"), tmp_path / "run", splits=splits)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_explodes_in_a_specialist_keeps_the_base(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    wild = changed(settings, specialist={"learning_rate": 1e30, "epochs": 20, "batch_size": 32})
    with pytest.raises(TrainingError, match="at step"):
        coterie.fit(wild, tmp_path / "run", splits=splits)
    assert Run.open(tmp_path / "run").has("base.safetensors")


def test_without_a_folder_nothing_is_kept(settings: FitSettings, splits: Splits) -> None:
    assert coterie.fit(settings, splits=splits).predict(splits.test.samples).shape == (64,)


def test_the_plan_counts_the_steps_that_are_taken(settings: FitSettings, splits: Splits) -> None:
    plan = make_plan(prepare(settings, splits=splits))
    assert [stage.title for stage in plan.stages] == ["base", "3 specialists", "validation and test"]
    assert plan.stages[0].steps == 4 * 6
    assert 0 < plan.seconds < 60
    assert plan.device == "cpu"


def test_metrics_are_json_for_anyone(run: Run) -> None:
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert set(metrics) == {"validation", "test"}
    outputs = read_outputs(run, "test")
    assert metrics["test"]["base_top1"] == pytest.approx((outputs.base_NC.argmax(axis=1) == outputs.label_N).mean())


def test_the_public_names_are_these() -> None:
    assert coterie.__all__ == [
        *("CoterieClassifier", "CoterieError", "FitSettings", "Partition", "SpecialistEnsemble"),
        *("distil", "fit", "load"),
    ]
    assert coterie.fit is pipeline.fit
    assert all(getattr(coterie, name) is not None for name in coterie.__all__)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        coterie.train  # noqa: B018


def tails(settings: FitSettings, **values: object) -> FitSettings:
    specialist = {**settings.specialist.model_dump(), "trainable": "stage3", "views": 2, **values}
    return changed(settings, specialist=specialist)


def test_tails_are_planned_with_the_trunk_run_once_a_view_and_once_to_be_asked(settings, splits, monkeypatch) -> None:
    step, image = 2.0, 0.01
    monkeypatch.setattr(plan, "training_seconds", lambda *_: step)
    monkeypatch.setattr(plan, "inference_seconds", lambda *_: image)

    def seconds(chosen: FitSettings) -> tuple[float, float, int]:
        *_, training, asking = make_plan(prepare(chosen, splits=splits)).stages
        return training.seconds / training.steps, asking.seconds, asking.n_images

    per_step, asking, n_images = seconds(settings)
    assert (per_step, asking) == (pytest.approx(step), pytest.approx(n_images * image))
    alone = (len(splits.validation) + len(splits.test)) * image
    part, asking_part, _ = seconds(tails(settings, views=0))
    share = (asking_part - alone) / (asking - alone)
    assert part == pytest.approx(step)
    assert 0.2 < share < 0.8  # of a pass, the last of three stages
    kept, asking_kept, _ = seconds(tails(settings, views=1, epochs=4))
    assert kept == pytest.approx(step - 3 / 4 * (1 - share) * image * settings.base.batch_size)
    assert asking_kept == pytest.approx(asking_part)


@pytest.mark.parametrize(("views", "bits"), [(0, 32), (2, 32), (2, 4)])
def test_specialists_of_which_the_end_is_trained_share_the_bases_trunk(tmp_path, settings, splits, views, bits) -> None:
    ensemble = coterie.fit(tails(settings, views=views, bits=bits), tmp_path / "run", splits=splits)
    run = Run.open_complete(tmp_path / "run")
    assert ensemble.cut == run.manifest.trunk.cut == "stage2"
    assert 0.2 < run.manifest.trunk.pass_cost < 0.8
    report = read_reports(run)["test"]
    asked = read_outputs(run, "test").pass_cost * report.routed_fraction * ensemble.rule.combiner.top
    assert report.mean_passes == pytest.approx(1 + asked)
    base_names = set(run.read_tensors(BASE_FILE))
    kept = run.read_tensors(specialist_files(ensemble.partition)[0])
    assert {name.split(".")[0] for name in kept} == {"stage3", "head"}
    assert set(kept) <= base_names or bits < 32
    whole_bytes = sum(p.nbytes for p in ensemble.base.stage3.parameters())
    assert sum(tensor.nbytes for tensor in kept.values()) < whole_bytes * (1.2 if bits == 32 else 0.3)
    # Against the whole networks, written out.
    outputs, partition = read_outputs(run, "test"), ensemble.partition
    head = run.manifest.head
    for name in ensemble.specialists:
        cluster = int(name)
        whole = make_specialist(ensemble.base, head, partition.classes(cluster))
        run.read_weights(specialist_files(partition)[cluster], whole, ensemble.base)
        alone = compute_logits(ensemble.computing, whole, splits.test.samples, splits.preprocessing)
        np.testing.assert_allclose(outputs.packed_NM[:, partition.columns(cluster)], alone, atol=1e-4)
    again = load_ensemble(tmp_path / "run")
    np.testing.assert_array_equal(again.predict_proba(splits.test.samples), ensemble.predict_proba(splits.test.samples))


@pytest.mark.parametrize(("bits", "by_moments"), [(2, True), (2.9, True), (3, False), (8, False), (32, False)])
def test_weights_are_rounded_by_moments_where_bits_are_few(
    tmp_path, monkeypatch, settings, splits, bits, by_moments
) -> None:
    asked: list[int] = []

    def moments(network, names, splits, classes, device):
        asked.append(len(classes))
        assert {name.partition(".")[0] for name in names} == {"stage3", "head"}  # the trunk is the base's
        return moments_of(network, names, splits, classes, device)

    monkeypatch.setattr("coterie.pipeline.specialists.moments_of", moments)
    ensemble = coterie.fit(tails(settings, views=0, bits=bits), tmp_path / "run", splits=splits)
    sizes = [len(ensemble.partition.classes(int(name))) for name in ensemble.specialists]
    assert sorted(asked) == (sorted(sizes) if by_moments else [])


def test_a_run_with_views_goes_on_with_the_same_bits(tmp_path, settings, splits) -> None:
    chosen = tails(settings, epochs=3)
    coterie.fit(chosen, tmp_path / "whole", splits=splits)
    title = next(t for t in Run.open(tmp_path / "whole").read_json("history.json") if t.startswith("specialist"))
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(chosen, tmp_path / "cut", splits=splits, progress=Interrupting(title, after=2))
    coterie.fit(chosen, tmp_path / "cut", splits=splits)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_specialists_of_adapters_are_merged_with_the_base_and_kept_as_two_small_matrices(
    tmp_path, settings, splits
) -> None:
    chosen = tails(settings, trainable="lora-2", epochs=3)
    ensemble = coterie.fit(chosen, tmp_path / "run", splits=splits)
    run = Run.open_complete(tmp_path / "run")
    assert ensemble.cut is None
    base, file = run.read_tensors(BASE_FILE), specialist_files(ensemble.partition)[0]
    kept = run.read_tensors(file)
    up, down = kept["stage3.0.0.weight:up"], kept["stage3.0.0.weight:down"]
    assert (up.shape[1], down.shape[0]) == (2, 2)
    specialist = ensemble.specialists[next(iter(ensemble.specialists))].state_dict()
    assert specialist.keys() == base.keys()
    written_out = base["stage3.0.0.weight"] + (up @ down).view(base["stage3.0.0.weight"].shape)
    torch.testing.assert_close(specialist["stage3.0.0.weight"], written_out, rtol=0, atol=0)
    assert sum(tensor.nbytes for tensor in kept.values()) < 0.5 * sum(tensor.nbytes for tensor in base.values())
    right = coterie.load(run.path).predict(splits.test.samples) == splits.test.labels_N.numpy()
    assert read_reports(run)["test"].ensemble_top1 == pytest.approx(right.mean())
    # A training that is cut goes on with the same bits.
    title = next(t for t in run.read_json("history.json") if t.startswith("specialist"))
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(chosen, tmp_path / "cut", splits=splits, progress=Interrupting(title, after=2))
    coterie.fit(chosen, tmp_path / "cut", splits=splits)
    assert weights(tmp_path / "cut") == weights(tmp_path / "run")


@pytest.mark.parametrize("trainable", ["all", "stage3"])
def test_a_specialist_stops_when_its_validation_loss_does_not_fall_and_goes_on_with_the_same_bits(
    tmp_path, settings, splits, trainable
) -> None:
    # At such a rate the validation loss rises sooner or later.
    chosen = tails(settings, trainable=trainable, epochs=12, patience=2, learning_rate=0.2)
    coterie.fit(chosen, tmp_path / "run", splits=splits)
    run = Run.open_complete(tmp_path / "run")
    epochs = {title: len(records) for title, records in run.read_json("history.json").items() if "specialist" in title}
    assert min(epochs.values()) < 12
    longest = max(epochs, key=lambda title: epochs[title])
    assert epochs[longest] > 2
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(chosen, tmp_path / "cut", splits=splits, progress=Interrupting(longest, after=2))
    coterie.fit(chosen, tmp_path / "cut", splits=splits)
    assert weights(tmp_path / "cut") == weights(tmp_path / "run")


def test_views_that_do_not_fit_in_memory_change_no_weight_and_one_that_does_not_is_refused(
    tmp_path, settings, splits
) -> None:
    said = r"specialist.views = 2: the output of stage2 .* or 0 views \(computed anew"
    example, network = splits.preprocessing.example()[:1], prepare(tails(settings), splits=splits).base.network
    with make_fabric(settings.hardware).autocast():
        view_bytes = len(splits.train) * trunk_features(network, "stage2", example).nbytes

    def within(views: float, **partition: object) -> FitSettings:
        """Memory for so many views of all training samples."""
        data = {**settings.data.model_dump(), "memory_gib": views * view_bytes / 2**30}
        return changed(tails(settings), data=data, partition=partition)

    with pytest.raises(SettingsError, match=said):
        coterie.fit(within(0.99, clusters=[1]), tmp_path / "sure", splits=splits)
    assert not list((tmp_path / "sure").rglob("*.safetensors"))
    # Of two clusters the larger has at least half; here it has three quarters, which is known with the clusters alone.
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps(["many"] * 6 + ["few"] * 2))
    given = {"method": "given", "groups": str(groups)}
    with pytest.raises(SettingsError, match=said):
        coterie.fit(within(0.6, **given), tmp_path / "unsure", splits=splits)
    assert Run.open(tmp_path / "unsure").has(BASE_FILE)
    lines: list[str] = []

    class Noting(Progress):
        def note(self, text: str) -> None:
            lines.append(text)

    coterie.fit(within(1.0, **given), tmp_path / "some", splits=splits, progress=Noting())
    assert any("of the 2 views of a cluster of" in line and "0 fit into --data.memory-gib" in line for line in lines)
    coterie.fit(within(2.0, **given), tmp_path / "all", splits=splits)
    assert weights(tmp_path / "some") == weights(tmp_path / "all")


def test_partitions_side_by_side_keep_the_specialists_that_each_alone_would_train(tmp_path, settings, splits) -> None:
    both = changed(settings, partition={"clusters": [3, 2, 1], "together": True})
    ensemble = coterie.fit(both, tmp_path / "both", splits=splits)
    partition, run = ensemble.partition, Run.open_complete(tmp_path / "both")
    assert partition.layer_S == (0, 0, 0, 1, 1, 2)
    together, columns = read_outputs(run, "test"), []
    for n_clusters in (3, 2, 1):
        alone = changed(settings, partition={"clusters": [n_clusters]})
        out = tmp_path / f"{n_clusters}"
        one = coterie.fit(alone, out, splits=splits, base_run=run.path)
        columns.append(read_outputs(Run.open_complete(out), "test").packed_NM)
        files = zip(specialist_files(one.partition), one.partition.size_S, strict=True)
        kept = [file for file, size in files if size > 1]
        assert {file: weights(out)[file] for file in kept}.items() <= weights(run.path).items()
    np.testing.assert_array_equal(together.packed_NM, np.concatenate(columns, axis=1))
    again = load_ensemble(run.path)
    np.testing.assert_array_equal(again.predict_proba(splits.test.samples), ensemble.predict_proba(splits.test.samples))
    # Router and ladder speak of the first partition.
    alone = read_reports(Run.open_complete(tmp_path / "3"))["test"]
    report = read_reports(run)["test"]
    assert (report.router_accuracy, report.oracle_specialist) == (alone.router_accuracy, alone.oracle_specialist)
    assert len(report.clusters) == 6


def test_two_partitions_of_which_one_is_asked_for_is_no_stack(tmp_path, settings, splits) -> None:
    one = changed(settings, partition={"clusters": [3], "together": True})
    assert coterie.fit(one, tmp_path / "one", splits=splits).partition.layer_S == ()


def test_only_the_first_rank_fits(settings: FitSettings, splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EngineError, match=r"rank 1 of 2 calls fit; only rank 0 does.*help_train_base"):
        coterie.fit(settings, splits=splits)


@pytest.mark.parametrize("name", ["base.safetensors", "specialists/3/0.safetensors", "head.safetensors"])
def test_a_file_that_is_deleted_meanwhile_does_not_end_as_finished(
    name: str, run: Run, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    path = tmp_path / "cut"

    class Deleting(Interrupting):
        def stage(self, title: str, steps: int) -> None:
            super().stage(title, steps)
            if title == "evaluation":
                (path / name).unlink()

    with pytest.raises(ArtifactError, match=rf"{name}: missing; the command that began it makes this again"):
        coterie.fit(settings, path, splits=splits, progress=Deleting("none"))
    assert not Run.open(path).complete
    coterie.fit(settings, path, splits=splits)
    assert weights(path) == weights(run.path)


def test_the_history_is_in_order_whoever_wrote_it(
    run: Run, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    path = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(settings, path, splits=splits, progress=Interrupting("evaluation"))
    cut = Run.open(path)
    history = cut.read_json("history.json")
    cut.write_json("history.json", dict(reversed(history.items())))
    coterie.fit(settings, path, splits=splits)
    assert list(Run.open(path).read_json("history.json")) == list(history)


def test_a_run_that_lost_its_history_goes_on_and_says_so(
    run: Run, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    path = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(settings, path, splits=splits, progress=Interrupting("specialist 1 of 3"))
    (path / "history.json").unlink()
    notes: list[str] = []

    class Noting(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    coterie.fit(settings, path, splits=splits, progress=Noting())
    assert any("history.json was lost" in note for note in notes)
    assert list(Run.open_complete(path).read_json("history.json")) == ["specialist 1 of 3", "specialist 2 of 3"]
    assert weights(path) == weights(run.path)


def test_what_was_skipped_is_listed_before_anything_is_trained(
    splits: Splits, settings: FitSettings, tmp_path: Path
) -> None:
    skipped = ("pictures/1.png: cut off", "pictures/\udcff.png: cut off")
    splits = dataclasses.replace(splits, skipped=skipped)
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(settings, tmp_path / "run", splits=splits, progress=Interrupting("base"))
    assert (tmp_path / "run/logs/skipped.txt").read_bytes() == b"pictures/1.png: cut off\npictures/\xff.png: cut off\n"
    assert "logs/skipped.txt" not in Run.open(tmp_path / "run").manifest.files
