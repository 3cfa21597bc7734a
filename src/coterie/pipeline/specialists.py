"""The third stage: the specialists of all partitions, trained by whatever engine there is."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from coterie.arrays import IntArray
from coterie.backbones import Head
from coterie.backbones.adapters import weights_of
from coterie.backbones.base import make_base
from coterie.backbones.deltas import encode
from coterie.backbones.moments import input_moments
from coterie.backbones.parts import TrainedPart
from coterie.backbones.specialist import as_asked, make_specialist
from coterie.config import PROBE, FitSettings
from coterie.data.batches import augmentation_of
from coterie.data.splits import Splits
from coterie.engine import Resources, TaskContext, make_engine
from coterie.partition import Partition
from coterie.pipeline.base import TrainedBase
from coterie.pipeline.job import Job
from coterie.pipeline.prepare import Prepared, views_bytes
from coterie.pipeline.training_task import SpecialistInputs, TrainingTask
from coterie.run.contents import read_history, write_history
from coterie.run.names import BASE_FILE, specialist_files, specialist_titles
from coterie.run.values import cut_of
from coterie.system.limits import LimitedProgress
from coterie.training.passes import put_in_use

# What a training takes beside its weights: libraries and activations; and weights, gradients, momentum, a state or two.
MEMORY_BYTES = 2**30
MEMORY_PER_PARAMETER_BYTE = 6
# Weights in fewer bits are rounded by moments. In more, plain rounding changes as little, and takes a fraction of the
# time (benchmarks/gains/rounding.md).
PLAIN_BITS = 3.0
# Training samples that the moments are of, and most bytes of them.
MOMENT_SAMPLES, MOMENT_BYTES = 512, 2**28


@dataclass(frozen=True, eq=False)
class Specialists:
    """A partition with its trained specialists, by cluster: None for a cluster of one class; tails where there is a
    trunk.
    """

    partition: Partition
    networks: list[nn.Module | None]


def train_specialists(
    job: Job,
    base: TrainedBase,
    partitions: Sequence[Partition],
    starts: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> list[Specialists]:
    """Train the specialists that the run folder lacks, and read all of them.

    Args:
        job: the run.
        base: trained.
        partitions: to train specialists for.
        starts: weights to start from instead of the base's, by the file of the specialist.

    Returns:
        One entry per partition; one in all where the partitions are kept together.
    """
    # Each partition is trained as if it were alone: its specialists are the same, whatever stands beside it.
    train_tasks(job, base, specialist_tasks(job.settings, partitions), starts or {})
    together = job.settings.partition.together and len(partitions) > 1
    return [_read(job, base, p) for p in ([Partition.stack(partitions)] if together else partitions)]


def specialist_tasks(settings: FitSettings, partitions: Sequence[Partition]) -> list[TrainingTask]:
    """The trainings of all specialists of all partitions. A cluster of one class needs none."""
    training = settings.specialist_of(sum(partition.n_clusters for partition in partitions))
    return [
        TrainingTask(
            title=titles[cluster],
            file=files[cluster],
            classes=tuple(partition.classes(cluster).tolist()),
            training=training,
            # By its place in its own partition, so that a refit draws the same batches; the base has the seed itself.
            seed=settings.seed + 1 + place,
            checkpoint_every=settings.checkpoint_every,
            threads=settings.hardware.specialist_threads,
        )
        for partition in partitions
        for titles, files in [(specialist_titles(partition), specialist_files(partition))]
        for cluster_L in partition.layers
        for place, cluster in enumerate(cluster_L.tolist())
        if partition.size_S[cluster] > 1
    ]


def specialist_inputs(
    prepared: Prepared,
    network: nn.Module,
    head: Head,
    part: TrainedPart,
    starts: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> SpecialistInputs:
    """What the trainings of all specialists share.

    Args:
        prepared: of the run.
        network: the trained base.
        head: of the base.
        part: of the base, that is trained.
        starts: as for ``train_specialists``.
    """
    settings, splits = prepared.settings, prepared.splits
    probes = settings.specialist.trainable == PROBE
    return SpecialistInputs(
        network,
        head,
        part,
        splits.train,
        splits.preprocessing,
        augmentation_of(settings.data, splits),
        settings.hardware,
        settings.data.workers,
        settings.data.sampling == "balanced",
        splits.validation if probes or settings.specialist.patience is not None else None,
        starts or {},
        make_base(settings.before_training(), splits.labels, splits.preprocessing).network if probes else None,
        splits.labels.texts() if probes and splits.preprocessing.modality == "text" else (),
        settings.data.memory_gib * 2**30,
    )


def train_tasks(
    job: Job, base: TrainedBase, tasks: Sequence[TrainingTask], starts: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Do those that the run folder lacks the result of; ``starts`` as for ``train_specialists``."""
    run, todo = job.run, [task for task in tasks if not job.run.has(task.file)]
    # Before workers are started, which takes seconds.
    job.limits.check()
    resources = _resources(job, base, todo)

    def context_of(number: int) -> TaskContext:
        return TaskContext(LimitedProgress(job.progress.lane(), job.limits), job.checkpoint(todo[number].file))

    engine = make_engine(job.engine, len(todo), resources)
    base_weights = weights_of(base.network)
    inputs = specialist_inputs(job.prepared, base.network, base.head, base.part, starts)
    with closing(engine.run(todo, inputs, resources, context_of)) as outcomes:
        for outcome in outcomes:
            task, trained = todo[outcome.number], outcome.unwrap()
            # Of a specialist's weights, what is not the base's is kept.
            started, bits = time.perf_counter(), task.training.bits
            moments: Mapping[str, Tensor] = {}
            # An adapter's matrices are no differences that could be rounded.
            if bits < PLAIN_BITS and trained.weights.keys() == base_weights.keys():
                classes = np.array(task.classes)
                network = make_specialist(base.network, base.head, classes)
                network.load_state_dict(trained.weights)
                changed = [name for name, known in base_weights.items() if not trained.weights[name].equal(known)]
                moments = moments_of(network, changed, job.splits, classes, job.fabric.device)
            kept = encode(trained.weights, base_weights, bits, moments)
            seconds = trained.seconds + time.perf_counter() - started
            job.keep(task.file, task.title, replace(trained, weights=kept, seconds=seconds))
    history = read_history(run)
    titles = [task.title for task in tasks if task.title in history]
    ordered = [*(title for title in history if title not in titles), *titles]
    if ordered != list(history):  # the results came in any order, perhaps in an earlier start
        write_history(run, {title: history[title] for title in ordered})


def moments_of(
    network: nn.Module, names: Sequence[str], splits: Splits, classes: IntArray, device: torch.device
) -> dict[str, Tensor]:
    """Of what some matrices of a specialist of some classes are multiplied with, on some of its training samples."""
    samples = splits.train.of_classes(classes).samples
    of_one = splits.preprocessing.example()[:1].nbytes
    n_samples = max(1, min(len(samples), MOMENT_SAMPLES, MOMENT_BYTES // of_one))
    # Evenly from all, which may lie class by class.
    some = torch.linspace(0, len(samples) - 1, n_samples).round().long()
    inputs = splits.preprocessing(samples.read(some).to(device))
    return input_moments(put_in_use(network, device), names, inputs)


def _resources(job: Job, base: TrainedBase, todo: Sequence[TrainingTask]) -> Resources:
    """What each specialist needs, and how long all should take, by what the base took."""
    settings, on_gpu = job.settings, job.fabric.device.type == "cuda"
    count_C = torch.bincount(job.splits.train.labels_N)
    most = max((int(count_C[list(task.classes)].sum()) for task in todo), default=0)
    kept_bytes, kept = views_bytes(job.prepared, base.network, most)
    if kept_bytes and kept < settings.specialist.kept_views:
        job.progress.note(
            f"of the {settings.specialist.kept_views} views of a cluster of {most} samples, {kept} fit into "
            "--data.memory-gib; the others are computed again in each epoch that they are drawn for"
        )
    partitions = len(settings.partition.clusters)
    share = partitions * (1 + settings.partition.overlap) * settings.specialist.epochs / settings.base.epochs
    parameter_bytes = sum(parameter.nbytes for parameter in base.network.parameters())
    return Resources(
        settings.hardware.specialist_threads,
        int(on_gpu),
        MEMORY_BYTES + MEMORY_PER_PARAMETER_BYTE * parameter_bytes + kept_bytes,
        # Unknown for a base that came trained.
        share * job.run.manifest.seconds.get(BASE_FILE, 0.0) or math.inf,
    )


def _read(job: Job, base: TrainedBase, partition: Partition) -> Specialists:
    networks = [read_specialist(job, base, partition, cluster) for cluster in range(partition.n_clusters)]
    return Specialists(partition, networks)


def read_specialist(job: Job, base: TrainedBase, partition: Partition, cluster: int) -> nn.Module | None:
    """A cluster's trained specialist as it is asked; None for a cluster of one class."""
    classes = partition.classes(cluster)
    if len(classes) == 1:
        return None
    specialist = make_specialist(base.network, base.head, classes)
    job.run.read_weights(specialist_files(partition)[cluster], specialist, base.network)
    return as_asked(specialist, cut_of(job.run.manifest), job.splits.preprocessing.example())
