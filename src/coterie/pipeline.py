"""The stages in order: Splits -> Base -> LabelEmbedding -> Partition -> Specialists -> Gate -> Ensemble -> Report.

Each stage leaves its result in the run folder, and a training its state between epochs; a run that is started again
goes on from there.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from scipy.special import softmax
from torch import nn

from coterie.artifact import (
    BASE_FILE,
    base_logits_file,
    load_ensemble,
    specialist_file,
    specialist_folder,
    write_examples,
    write_head,
    write_outputs,
    write_report,
    write_rule,
)
from coterie.backbones import Head
from coterie.backbones.parts import WHOLE, TrainedPart, trained_part
from coterie.base import Base, make_base, name_of_module, rebuild_base, refuse_other_order
from coterie.checkpoint import CheckpointFile
from coterie.config import GROUPS_COLUMN, FitSettings, TrainingSettings
from coterie.data import load as load_data
from coterie.data import read_groups
from coterie.data.batches import Augmentation, Batches, training_batches
from coterie.data.splits import Split, Splits
from coterie.embedding import LabelEmbedding
from coterie.ensemble import SpecialistEnsemble
from coterie.errors import ArtifactError
from coterie.evaluation import Outputs
from coterie.label_file import read_column
from coterie.labels import LabelSpace
from coterie.partition import Partition, Wish, check_n_clusters, confusion_counts, make_partition
from coterie.progress import Progress
from coterie.run_folder import (
    CHECKPOINT_FOLDER,
    Candidate,
    CostRecord,
    DataRecord,
    HeadRecord,
    NetworkRecord,
    PartitionRecord,
    Run,
    differences,
)
from coterie.specialist import make_specialist
from coterie.training import compute_logits, make_fabric, train
from coterie.tune import Request, Tuning, tune
from coterie.watch import StageWatch

TIMED_IMAGES = 2048
# What a trained base depends on.
BASE_SETTINGS = {"data", "backbone", "weights", "names", "head", "base", "seed"}


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
        self,
        title: str,
        file: str,
        network: nn.Module,
        split: Split,
        training: TrainingSettings,
        seed: int,
        part: TrainedPart = WHOLE,
        base: nn.Module | None = None,
    ) -> nn.Module:
        """Train a network or a part of it and keep its weights in ``file``, with a ``base`` those that differ from its;
        or, if an earlier start did, read them.
        """
        if self.run.has(file):
            self.run.read_weights(file, network, base)
            return network.to(self.fabric.device).eval()
        batches = self.batches(split, training, seed)
        checkpoint = CheckpointFile(self.run.path / CHECKPOINT_FOLDER / file)
        watch = StageWatch(checkpoint, self.settings.checkpoint_every)
        self.progress.stage(title, training.epochs * len(batches))
        history = train(
            self.fabric,
            network,
            batches,
            training,
            self.progress,
            part=part,
            watch=watch,
            compile_network=self.settings.hardware.compile,
        )
        known = self.run.read_json("history.json") if self.run.has("history.json") else {}
        self.run.write_json("history.json", {**known, title: [record.to_values() for record in history]})
        self.run.write_weights(file, network, base, seconds={**self.run.manifest.seconds, file: watch.seconds})
        checkpoint.delete()
        return network


@dataclass(frozen=True, eq=False)
class Grouping:
    """A partition with its specialists, what these make of the validation images, and the rule chosen for them."""

    partition: Partition
    specialists: list[nn.Module | None]
    validation: Outputs
    tuning: Tuning


def fit(
    settings: FitSettings,
    out: Path | str | None = None,
    *,
    splits: Splits | None = None,
    base: nn.Module | None = None,
    base_run: Path | str | None = None,
    progress: Progress = Progress(),  # noqa: B008 - it has no state
) -> SpecialistEnsemble:
    """Train a specialist ensemble, from labelled images to the report.

    Args:
        settings: of every stage.
        out: the run folder; one that holds an unfinished run with the same settings goes on. None keeps nothing.
        splits: data to use instead of ``settings.data.source``.
        base: a network that is trained already, from inputs (B, channels, H, W) to logits (B, C). It is copied, and
            stands in for ``settings.backbone``; to load the run, one of its form is needed again.
        base_run: a run whose trained base is taken; it had the same data, network, base settings and seed.
        progress: who is told how it goes.

    Raises:
        CoterieError: see coterie.errors for what can be wrong.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="coterie-") as folder:
            return fit(settings, folder, splits=splits, base=base, base_run=base_run, progress=progress)
    if base is not None:
        settings = settings.model_copy(update={"backbone": name_of_module(base)})
    run = Run.create_or_resume(Path(out), settings)
    if run.manifest.complete:
        return load_ensemble(run.path, base=base, trust=settings.backbone)
    splits = load_data(settings.data, settings.seed) if splits is None else splits
    job = Job(settings, splits, make_fabric(settings.hardware), run, progress)

    prepared = prepare_base(settings, splits, base, base_run)
    head = prepared.head
    data = _data_record(splits)
    if run.manifest.data not in (None, data):
        raise ArtifactError(
            f"the data of {settings.data.source} has changed since {run.path} was begun; choose another --out"
        )
    run.update(data=data, head=HeadRecord(**vars(head)), network=prepared.record)
    if base_run is not None and not run.has(BASE_FILE):
        _take_base(run, Run.open(Path(base_run)))
    if prepared.trained and base_run is None:
        _keep_base(run, prepared.network)
    network = job.train_stage("base", BASE_FILE, prepared.network, splits.train, settings.base, settings.seed)
    write_head(run, head.of(network))
    embedding = LabelEmbedding.from_head(head.of(network))
    base_validation_NC = _base_logits(job, network)
    if prepared.trained:
        refuse_other_order(base_validation_NC, splits.validation.labels_N.numpy())
    partitions = _make_partitions(settings, splits, embedding, base_validation_NC)
    return complete(job, network, head, partitions, base_validation_NC)


def complete(
    job: Job, network: nn.Module, head: Head, partitions: list[Partition], base_validation_NC: np.ndarray
) -> SpecialistEnsemble:
    """Train the specialists that the run folder still lacks, keep the partition that does best, and judge it."""
    settings, splits = job.settings, job.splits
    part = trained_part(network, head, splits.preprocessing.example(), settings.specialist.trainable)
    groupings = [_make_grouping(job, network, head, part, partition, base_validation_NC) for partition in partitions]
    chosen = max(groupings, key=lambda grouping: grouping.tuning.accuracy)
    ensemble = SpecialistEnsemble(
        network,
        chosen.specialists,
        chosen.partition,
        splits.labels,
        chosen.tuning.rule,
        splits.preprocessing,
        settings.hardware,
    )
    _finish(job, ensemble, chosen, groupings)
    return ensemble


def _base_logits(job: Job, base: nn.Module) -> np.ndarray:
    """The base's logits on validation. They are kept, so that `coterie headroom` need not run the network."""
    file = base_logits_file("validation")
    if not job.run.has(file):
        label_N = job.splits.validation.labels_N.numpy()
        job.run.write_arrays(file, {"base_NC": _logits(job, base, job.splits.validation), "label_N": label_N})
    return job.run.read_arrays(file)["base_NC"]


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
    history = other.read_json("history.json")
    run.write_json("history.json", {title: history[title] for title in ("base",) if title in history})
    run.write(BASE_FILE, other.read(BASE_FILE), seconds={BASE_FILE: other.manifest.seconds[BASE_FILE]})


def _keep_base(run: Run, network: nn.Module) -> None:
    """Keep the weights of a base that came trained, or make sure that they are those that the run began with.

    Raises:
        ArtifactError: they are others.
    """
    if not run.has(BASE_FILE):
        run.write_json("history.json", {})
        run.write_weights(BASE_FILE, network, seconds={BASE_FILE: 0.0})
        return
    kept = run.read_tensors(BASE_FILE)
    ours = network.state_dict()
    if kept.keys() != ours.keys() or not all(torch.equal(kept[name], ours[name].cpu()) for name in kept):
        raise ArtifactError(f"the base has other weights than when {run.path} was begun; choose another --out")


def augmentation_of(settings: FitSettings, splits: Splits) -> Augmentation:
    """The augmentation that was asked for, or that suits the data."""
    flip = splits.flip if settings.data.flip is None else settings.data.flip
    return Augmentation(settings.data.crop_padding, flip, settings.data.cutout)


def prepare_base(
    settings: FitSettings, splits: Splits, given: nn.Module | None = None, base_run: Path | str | None = None
) -> Base:
    """The base as it stands before the run, after a check of all that could go wrong later. That of another run has
    the right form, and not yet its weights.

    Raises:
        BackboneError: no such network, it has no head, or does not fit the data; or the specialists' trainable part is
            none of it.
        PartitionError: a number of clusters below 1 or above C.
        DataError: given groups that cannot be read, or are not one for each class.
    """
    for n_clusters in numbers_of_clusters(settings, splits.labels):
        check_n_clusters(n_clusters, len(splits.labels))
        _wish(settings, n_clusters)
    form = splits.preprocessing
    if base_run is None:
        base = make_base(settings, splits.labels, form.channels, form.example(), given)
    else:
        manifest = Run.open(Path(base_run)).manifest
        if manifest.head is None:
            raise ArtifactError(f"{base_run} has no trained base yet")
        network, head = rebuild_base(
            settings, manifest.network, manifest.head, len(splits.labels), form.channels, given, settings.backbone
        )
        base = Base(network, head, False, manifest.network or NetworkRecord())
    trained_part(base.network, base.head, form.example(), settings.specialist.trainable)
    return base


def _make_partitions(
    settings: FitSettings, splits: Splits, embedding: LabelEmbedding, base_validation_NC: np.ndarray
) -> list[Partition]:
    """One partition per number of clusters. Given groups and limits of size may give another number than was asked
    for; where two come to the same, the first is kept.
    """
    confusion_CC = confusion_counts(softmax(base_validation_NC, axis=1), splits.validation.labels_N.numpy())
    groups = _groups(settings, splits.labels)
    by_number: dict[int, Partition] = {}
    for n_clusters in numbers_of_clusters(settings, splits.labels):
        partition = make_partition(_wish(settings, n_clusters), embedding.vectors_CD, confusion_CC, groups)
        by_number.setdefault(partition.n_clusters, partition)
    return list(by_number.values())


def _make_grouping(
    job: Job, base: nn.Module, head: Head, part: TrainedPart, partition: Partition, base_validation_NC: np.ndarray
) -> Grouping:
    settings, splits = job.settings, job.splits
    specialists: list[nn.Module | None] = []
    packed_NM = np.zeros((len(splits.validation), int(partition.size_S.sum())), dtype=np.float32)
    for cluster in range(partition.n_clusters):
        classes = partition.classes(cluster)
        if len(classes) == 1:
            specialists.append(None)
            continue
        specialist = job.train_stage(
            f"specialist {cluster} of {partition.n_clusters}",
            specialist_file(partition.n_clusters, cluster),
            make_specialist(base, head, classes),
            splits.train.of_classes(classes),
            settings.specialist,
            settings.seed + 1 + cluster,
            part,
            base,
        )
        specialists.append(specialist)
        packed_NM[:, partition.columns(cluster)] = _logits(job, specialist, splits.validation)
    validation = Outputs(base_validation_NC, packed_NM, splits.validation.labels_N.numpy())
    tuning = tune(validation, partition, Request.of(settings.gate), settings.seed)
    return Grouping(partition, specialists, validation, tuning)


def numbers_of_clusters(settings: FitSettings, labels: LabelSpace) -> tuple[int, ...]:
    """What is tried: as many as there are groups where these are given, whatever number was asked for.

    Raises:
        DataError: given groups that cannot be read, or are not one for each class.
    """
    groups = _groups(settings, labels)
    return settings.partition.clusters if groups is None else (len(set(groups)),)


def _groups(settings: FitSettings, labels: LabelSpace) -> tuple[str, ...] | None:
    """The given group of each class; None for the other methods."""
    place = settings.partition.groups
    if place is None:
        return None
    if place.startswith(GROUPS_COLUMN):
        return read_groups(settings.data, place.removeprefix(GROUPS_COLUMN), labels)
    return read_column(place, len(labels), "groups")


def _wish(settings: FitSettings, n_clusters: int) -> Wish:
    return Wish(settings.partition.method, n_clusters, settings.partition.max_size, settings.seed)


def _finish(job: Job, ensemble: SpecialistEnsemble, chosen: Grouping, groupings: list[Grouping]) -> None:
    """Judge the ensemble on the test split, and leave all that the run folder still lacks."""
    run, splits, partition = job.run, job.splits, chosen.partition
    job.progress.stage("evaluation", 3)
    test = ensemble.outputs(splits.test.images, splits.test.labels_N.numpy())
    job.progress.advance(1)
    members = tuple(tuple(partition.classes(k).tolist()) for k in range(partition.n_clusters))
    candidates = tuple(Candidate(clusters=g.partition.n_clusters, accuracy=g.tuning.accuracy) for g in groupings)
    run.update(partition=PartitionRecord(members=members, candidates=candidates), costs=_measure_costs(job, ensemble))
    job.progress.advance(1)
    write_outputs(run, "validation", chosen.validation)
    run.forget([name for name in (base_logits_file("validation"),) if name in run.manifest.files])
    write_outputs(run, "test", test)
    write_rule(run, chosen.tuning)
    write_examples(run, test, partition, ensemble.rule, splits.test)
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
