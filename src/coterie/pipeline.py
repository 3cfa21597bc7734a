"""The stages in order: Splits -> Base -> LabelEmbedding -> Partition -> Specialists -> Gate -> Ensemble -> Report.

Each stage leaves its result in the run folder, and a training its state between epochs; a run that is started again
goes on from there.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from scipy.special import softmax
from torch import nn
from typing_extensions import override

from coterie.artifact import (
    BASE_FILE,
    load_ensemble,
    specialist_file,
    specialist_folder,
    write_examples,
    write_outputs,
    write_report,
)
from coterie.backbones import Head, build, find_head
from coterie.checkpoint import Checkpoint, State
from coterie.config import FitSettings, TrainingSettings
from coterie.data import load as load_data
from coterie.data.batches import Augmentation, Batches, training_batches
from coterie.data.splits import Split, Splits
from coterie.embedding import LabelEmbedding
from coterie.engine import Demand, Desk, InProcess, Materials, Trained, TrainingTask, weights_of
from coterie.ensemble import SpecialistEnsemble
from coterie.errors import ArtifactError
from coterie.evaluation import Outputs, Routing, evaluate
from coterie.gate import Gate, cross_fitted_accuracy, sweep_thresholds
from coterie.label_file import read_column
from coterie.partition import Partition, Wish, check_n_clusters, confusion_counts, make_partition
from coterie.progress import Progress
from coterie.run_folder import (
    Candidate,
    CostRecord,
    DataRecord,
    GateRecord,
    HeadRecord,
    PartitionRecord,
    Run,
    differences,
)
from coterie.specialist import make_specialist
from coterie.training import compute_logits, make_fabric, train

TIMED_IMAGES = 2048
CHECKPOINT_SECONDS = 15.0
# What a trained base depends on.
BASE_SETTINGS = {"data", "backbone", "base", "seed"}


@dataclass(frozen=True, eq=False)
class Job:
    """What every stage needs: the settings, the data, the device, where results go, and who is told."""

    settings: FitSettings
    splits: Splits
    fabric: Fabric
    run: Run
    progress: Progress

    def batches(self, split: Split, training: TrainingSettings, seed: int) -> Batches:
        """Training batches of a split."""
        return training_batches(
            split,
            self.splits.preprocessing,
            augmentation_of(self.settings, self.splits),
            batch_size=training.batch_size,
            seed=seed,
            workers=self.settings.data.workers,
        )

    def train_stage(
        self, title: str, file: str, network: nn.Module, split: Split, training: TrainingSettings, seed: int
    ) -> nn.Module:
        """Train a network and keep its weights in ``file``; or, if an earlier start did, read them."""
        if self.run.has(file):
            self.run.read_weights(file, network)
            return network.to(self.fabric.device).eval()
        batches = self.batches(split, training, seed)
        checkpoint = StageCheckpoint(self.run, file)
        self.progress.stage(title, training.epochs * len(batches))
        started = time.perf_counter()
        history = train(
            self.fabric,
            network,
            batches,
            training,
            self.progress,
            checkpoint=checkpoint,
            compile_network=self.settings.hardware.compile,
        )
        self.keep(title, Trained(weights_of(network), history, time.perf_counter() - started), checkpoint)
        return network

    def train_specialists(self, tasks: Sequence[TrainingTask], base: nn.Module, head: Head) -> None:
        """Train those that an earlier start did not finish, and keep their weights in their files."""
        hardware = self.settings.hardware
        materials = Materials(
            {BASE_FILE: base},
            head,
            self.splits.train,
            self.splits.preprocessing,
            augmentation_of(self.settings, self.splits),
            hardware,
            self.settings.data.workers,
        )
        todo = [task for task in tasks if not self.run.has(task.file)]
        checkpoints: dict[int, StageCheckpoint] = {}

        def desk_of(number: int) -> Desk:
            checkpoints[number] = StageCheckpoint(self.run, todo[number].file)
            return Desk(self.progress, checkpoints[number])

        with closing(InProcess().run(todo, materials, Demand(hardware.specialist_threads), desk_of)) as outcomes:
            for outcome in outcomes:
                self.keep(todo[outcome.number].title, outcome.unwrap(), checkpoints[outcome.number])

    def keep(self, title: str, trained: Trained, checkpoint: StageCheckpoint) -> None:
        """Write what a training gave, and delete its checkpoint."""
        known = self.run.read_json("history.json") if self.run.has("history.json") else {}
        self.run.write_json("history.json", {**known, title: [record.to_values() for record in trained.history]})
        times = {name: spent for name, spent in self.run.manifest.seconds.items() if name != checkpoint.file}
        seconds = {**times, checkpoint.stage_file: checkpoint.seconds_before + trained.seconds}
        self.run.write_tensors(checkpoint.stage_file, trained.weights, seconds=seconds)
        self.run.forget([checkpoint.file])


class StageCheckpoint(Checkpoint):
    """Keeps the state of one stage's training in the run folder, until the stage is done."""

    def __init__(self, run: Run, stage_file: str) -> None:
        self.run = run
        self.stage_file = stage_file
        self.file = f"checkpoint/{stage_file}"
        self.seconds_before = run.manifest.seconds.get(self.file, 0.0)
        self.started = self.saved = time.perf_counter()

    @override
    def load(self) -> State | None:
        return self.run.read_tensors(self.file) if self.run.has(self.file) else None

    @override
    def save(self, state: State) -> None:
        now = time.perf_counter()
        # Short epochs are not worth a write each.
        if now - self.saved >= CHECKPOINT_SECONDS:
            self.saved = now
            spent = self.seconds_before + now - self.started
            self.run.write_tensors(self.file, state, seconds={**self.run.manifest.seconds, self.file: spent})


@dataclass(frozen=True, eq=False)
class Grouping:
    """A partition with its specialists, and what these make of the validation images."""

    partition: Partition
    specialists: list[nn.Module | None]
    validation: Outputs
    routing: Routing
    gate: Gate
    accuracy: float


def fit(
    settings: FitSettings,
    out: Path | str | None = None,
    *,
    splits: Splits | None = None,
    base_run: Path | str | None = None,
    progress: Progress = Progress(),  # noqa: B008 - it has no state
) -> SpecialistEnsemble:
    """Train a specialist ensemble, from labelled images to the report.

    Args:
        settings: of every stage.
        out: the run folder; one that holds an unfinished run with the same settings goes on. None keeps nothing.
        splits: data to use instead of ``settings.data.source``.
        base_run: a run whose trained base is taken; it had the same data, network, base settings and seed.
        progress: who is told how it goes.

    Raises:
        CoterieError: see coterie.errors for what can be wrong.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="coterie-") as folder:
            return fit(settings, folder, splits=splits, base_run=base_run, progress=progress)
    run = Run.create_or_resume(Path(out), settings)
    if run.manifest.complete:
        return load_ensemble(run.path)
    splits = load_data(settings.data, settings.seed) if splits is None else splits
    job = Job(settings, splits, make_fabric(settings.hardware), run, progress)

    base, head = prepare_base(settings, splits)
    data = _data_record(splits)
    if run.manifest.data not in (None, data):
        raise ArtifactError(
            f"the data of {settings.data.source} has changed since {run.path} was begun; choose another --out"
        )
    run.update(data=data, head=HeadRecord(**vars(head)))
    if base_run is not None and not run.has(BASE_FILE):
        _take_base(run, Run.open(Path(base_run)))
    base = job.train_stage("base", BASE_FILE, base, splits.train, settings.base, settings.seed)
    embedding = LabelEmbedding.from_head(head.of(base))
    base_validation_NC = _logits(job, base, splits.validation)
    partitions = _make_partitions(settings, splits, embedding, base_validation_NC)
    job.train_specialists(specialist_tasks(settings, partitions), base, head)
    groupings = [_make_grouping(job, base, head, partition, base_validation_NC) for partition in partitions]
    chosen = max(groupings, key=lambda grouping: grouping.accuracy)
    ensemble = SpecialistEnsemble(
        base,
        chosen.specialists,
        chosen.partition,
        splits.labels,
        chosen.gate,
        settings.gate.combiner,
        splits.preprocessing,
        settings.hardware,
    )
    _finish(job, ensemble, chosen, groupings)
    return ensemble


def _take_base(run: Run, other: Run) -> None:
    """Copy another run's trained base, with its history and the seconds it took.

    Raises:
        ArtifactError: that run has no trained base, or one that these settings would not have given.
    """
    if not other.has(BASE_FILE):
        raise ArtifactError(f"{other.path} has no trained base yet")
    ours, theirs = (FitSettings.from_values(manifest.settings) for manifest in (run.manifest, other.manifest))
    changed = differences(theirs.model_dump(include=BASE_SETTINGS), ours.model_dump(include=BASE_SETTINGS))
    if changed:
        raise ArtifactError(f"the base of {other.path} is not the one of this run; they differ in {'; '.join(changed)}")
    run.write_json("history.json", {"base": other.read_json("history.json")["base"]})
    run.write(BASE_FILE, other.read(BASE_FILE), seconds={BASE_FILE: other.manifest.seconds[BASE_FILE]})


def augmentation_of(settings: FitSettings, splits: Splits) -> Augmentation:
    """The augmentation that was asked for, or that suits the data."""
    flip = splits.flip if settings.data.flip is None else settings.data.flip
    return Augmentation(settings.data.crop_padding, flip, settings.data.cutout)


def prepare_base(settings: FitSettings, splits: Splits) -> tuple[nn.Module, Head]:
    """An untrained base and its head, after a check of all that could go wrong later.

    Raises:
        BackboneError: no such network, or no linear head.
        PartitionError: a number of clusters below 1 or above C.
        DataError: given groups that cannot be read, or are not one for each class.
    """
    for n_clusters in _numbers_of_clusters(settings):
        if settings.partition.method != "given":  # groups come in their own number
            check_n_clusters(n_clusters, len(splits.labels))
        _wish(settings, n_clusters)
    _groups(settings, len(splits.labels))
    form = splits.preprocessing
    base = build(settings.backbone, len(splits.labels), form.channels, settings.seed)
    return base, find_head(base, len(splits.labels), (form.channels, form.height, form.width))


def _make_partitions(
    settings: FitSettings, splits: Splits, embedding: LabelEmbedding, base_validation_NC: np.ndarray
) -> list[Partition]:
    """One partition per number of clusters. Given groups and limits of size may give another number than was asked
    for; where two come to the same, the first is kept.
    """
    confusion_CC = confusion_counts(softmax(base_validation_NC, axis=1), splits.validation.labels_N.numpy())
    groups = _groups(settings, len(splits.labels))
    by_number: dict[int, Partition] = {}
    for n_clusters in _numbers_of_clusters(settings):
        partition = make_partition(_wish(settings, n_clusters), embedding.vectors_CD, confusion_CC, groups)
        by_number.setdefault(partition.n_clusters, partition)
    return list(by_number.values())


def specialist_tasks(settings: FitSettings, partitions: Sequence[Partition]) -> list[TrainingTask]:
    """The trainings of all specialists of all partitions. A cluster of one class needs none."""
    return [
        TrainingTask(
            title=f"specialist {cluster} of {partition.n_clusters}",
            file=specialist_file(partition.n_clusters, cluster),
            start=BASE_FILE,
            classes=tuple(partition.classes(cluster).tolist()),
            training=settings.specialist,
            seed=settings.seed + 1 + cluster,
            threads=settings.hardware.specialist_threads,
        )
        for partition in partitions
        for cluster in range(partition.n_clusters)
        if partition.size_S[cluster] > 1
    ]


def _make_grouping(
    job: Job, base: nn.Module, head: Head, partition: Partition, base_validation_NC: np.ndarray
) -> Grouping:
    settings, splits = job.settings, job.splits
    specialists: list[nn.Module | None] = []
    packed_NM = np.zeros((len(splits.validation), int(partition.size_S.sum())), dtype=np.float32)
    for cluster in range(partition.n_clusters):
        classes = partition.classes(cluster)
        if len(classes) == 1:
            specialists.append(None)
            continue
        specialist = make_specialist(base, head, classes)
        job.run.read_weights(specialist_file(partition.n_clusters, cluster), specialist)
        specialists.append(specialist)
        packed_NM[:, partition.columns(cluster)] = _logits(job, specialist, splits.validation)
    validation = Outputs(base_validation_NC, packed_NM, splits.validation.labels_N.numpy())
    routing = Routing.of(validation, partition, settings.gate.combiner)
    return Grouping(partition, specialists, validation, routing, *_choose_gate(settings, validation, routing))


def _numbers_of_clusters(settings: FitSettings) -> tuple[int, ...]:
    """What is tried: one partition where groups are given, whatever number was asked for."""
    return settings.partition.clusters[:1] if settings.partition.method == "given" else settings.partition.clusters


def _groups(settings: FitSettings, n_classes: int) -> tuple[str, ...] | None:
    """The given group of each class; None for the other methods."""
    if settings.partition.method != "given" or settings.partition.groups is None:
        return None
    return read_column(settings.partition.groups, n_classes, "groups")


def _wish(settings: FitSettings, n_clusters: int) -> Wish:
    return Wish(settings.partition.method, n_clusters, settings.partition.max_size, settings.seed)


def _choose_gate(settings: FitSettings, validation: Outputs, routing: Routing) -> tuple[Gate, float]:
    """The gate, and the accuracy on validation by which numbers of clusters are compared: without the optimism of a
    threshold that was chosen on the same images.
    """
    base_N, routed_N = routing.right(validation.label_N)
    if settings.gate.threshold is not None:
        gate = Gate(settings.gate.threshold)
        return gate, float(np.where(routing.score_N >= gate.threshold, routed_N, base_N).mean())
    curve = sweep_thresholds(routing.score_N, base_N, routed_N)
    accuracy = cross_fitted_accuracy(routing.score_N, base_N, routed_N, seed=settings.seed)
    return Gate(float(curve.threshold_T[curve.best])), accuracy


def _finish(job: Job, ensemble: SpecialistEnsemble, chosen: Grouping, groupings: list[Grouping]) -> None:
    """Judge the ensemble on the test split, and leave all that the run folder still lacks."""
    run, splits, gate = job.run, job.splits, ensemble.gate
    job.progress.stage("evaluation", 3)
    test = ensemble.outputs(splits.test.images, splits.test.labels_N.numpy())
    job.progress.advance(1)
    members = tuple(tuple(chosen.partition.classes(k).tolist()) for k in range(chosen.partition.n_clusters))
    candidates = tuple(Candidate(clusters=g.partition.n_clusters, accuracy=g.accuracy) for g in groupings)
    run.update(
        partition=PartitionRecord(members=members, candidates=candidates),
        gate=GateRecord(
            score="entropy",
            combiner=ensemble.combiner,
            threshold=gate.threshold if np.isfinite(gate.threshold) else None,
        ),
        costs=_measure_costs(job, ensemble),
    )
    job.progress.advance(1)
    write_outputs(run, "validation", chosen.validation)
    write_outputs(run, "test", test)
    reports = {
        name: evaluate(outputs, chosen.partition, gate, ensemble.combiner)
        for name, outputs in (("validation", chosen.validation), ("test", test))
    }
    run.write_json("metrics.json", {name: report.to_values() for name, report in reports.items()})
    write_examples(run, test, ensemble, splits.test)
    write_report(run, datetime.now(UTC).date().isoformat())
    for grouping in groupings:
        if grouping is not chosen:
            folder = specialist_folder(grouping.partition.n_clusters)
            run.forget([name for name in run.manifest.files if name.startswith(folder)])
    run.update(complete=True)
    job.progress.advance(1)


def _measure_costs(job: Job, ensemble: SpecialistEnsemble) -> CostRecord:
    images = job.splits.test.images
    images = images.take(torch.arange(min(TIMED_IMAGES, len(images))))
    form = job.splits.preprocessing
    seconds = job.run.manifest.seconds
    base_ms = _milliseconds(lambda: compute_logits(job.fabric, ensemble.base, images, form)) / len(images)
    ensemble_ms = _milliseconds(lambda: ensemble.decide(images)) / len(images)
    kept = specialist_folder(ensemble.partition.n_clusters)
    return CostRecord(
        base_seconds=seconds[BASE_FILE],
        specialist_seconds=sum(value for name, value in seconds.items() if name.startswith(kept)),
        base_image_ms=base_ms,
        ensemble_image_ms=ensemble_ms,
        base_parameters=sum(p.numel() for p in ensemble.base.parameters()),
        specialist_parameters=sum(p.numel() for p in ensemble.specialists.parameters()),
    )


def _milliseconds(work: Callable[[], object]) -> float:
    work()  # the first call pays for memory and kernels
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def _logits(job: Job, network: nn.Module, split: Split) -> np.ndarray:
    return compute_logits(job.fabric, network, split.images, job.splits.preprocessing)


def _data_record(splits: Splits) -> DataRecord:
    return DataRecord(about=splits.about, classes=splits.labels.names, **vars(splits.preprocessing))
