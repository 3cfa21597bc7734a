"""What a run will train and about how long that takes, before it starts."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import nn

from coterie.backbones.parts import WHOLE, TrainedPart
from coterie.config import PROBE, TrainingSettings
from coterie.data.batches import Batches, training_batches
from coterie.data.splits import Splits
from coterie.pipeline.prepare import Prepared, augmentation_of, disk_bound
from coterie.training.loop import make_optimizer, smoothed_cross_entropy, training_step
from coterie.training.passes import compute_logits

# Enough steps for kernels and caches to settle; a step of a large network on a CPU is long, hence the time limit.
WARM_UP_STEPS = 2
TIMED_STEPS = 8
TIMED_SECONDS = 4.0


@dataclass(frozen=True)
class PlannedStage:
    """One stage: images it sees an epoch, epochs, optimiser steps, and the seconds estimated for it."""

    title: str
    n_images: int
    epochs: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """All stages of a run. ``parameters``: of the base; ``device``, ``precision``: where and how it computes;
    ``disk_bytes``: what the run folder takes at most.
    """

    stages: tuple[PlannedStage, ...]
    parameters: int
    device: str
    precision: str
    disk_bytes: int

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(stage.seconds for stage in self.stages)


def make_plan(prepared: Prepared) -> Plan:
    """Time a few real training steps and forward passes, and count what the run consists of.

    Args:
        prepared: of the run; its base is left as it is.
    """
    settings, splits, base, fabric = prepared.settings, prepared.splits, prepared.base, prepared.fabric
    network = base.network
    batches = training_batches(
        splits.train,
        splits.preprocessing,
        augmentation_of(settings, splits),
        batch_size=settings.base.batch_size,
        seed=settings.seed,
        workers=0,
        balanced=settings.data.sampling == "balanced",
    )
    step_seconds = part_seconds = _time_training(fabric, copy.deepcopy(network), batches, settings.base, prepared.whole)
    if base.part is not WHOLE:
        part_seconds = _time_training(fabric, copy.deepcopy(network), batches, settings.base, base.part)
    # All that is timed are copies, so that the plan leaves the base on the device and in the mode that it had.
    image_seconds = _time_inference(fabric, copy.deepcopy(network), splits)
    tail_share = 1.0 if prepared.trunk is None else prepared.trunk.pass_cost
    if prepared.trunk is not None and settings.specialist.kept_views:
        # The trunk, which was timed in each step, is run once a view.
        skipped = (1 - tail_share) * (1 - settings.specialist.kept_views / settings.specialist.epochs)
        part_seconds = max(part_seconds - skipped * image_seconds * batches.batch_size, 0.0)
    stages = []
    if not base.trained and prepared.base_run is None:
        stages.append(_training_stage("base", settings.base, len(splits.train), step_seconds, settings.base.batch_size))
    tried = prepared.n_clusters
    n_images = round(len(splits.train) * (1 + settings.partition.overlap))
    for n_clusters in tried:
        title = f"{n_clusters} specialists"
        if settings.specialist.trainable == PROBE:
            stages.append(PlannedStage(title, n_images, 1, 0, n_images * image_seconds))
            continue
        stages.append(_training_stage(title, settings.specialist, n_images, part_seconds, settings.base.batch_size))
    asked = sum(tried) * len(splits.validation) + max(tried) * len(splits.test)
    alone = len(splits.validation) + len(splits.test)
    seconds = (alone + tail_share * asked) * image_seconds
    stages.append(PlannedStage("validation and test", alone + asked, 1, 0, seconds))
    return Plan(
        tuple(stages),
        sum(parameter.numel() for parameter in network.parameters()),
        str(fabric.device),
        fabric._precision.precision,
        disk_bound(prepared),
    )


def _training_stage(
    title: str, training: TrainingSettings, n_images: int, step_seconds: float, timed_batch: int
) -> PlannedStage:
    batch_size = min(training.batch_size, n_images)
    steps = training.epochs * (n_images // batch_size)
    seconds = steps * step_seconds * batch_size / timed_batch
    return PlannedStage(title, n_images, training.epochs, steps, seconds)


def _time_training(
    fabric: Fabric, network: nn.Module, batches: Batches, training: TrainingSettings, part: TrainedPart
) -> float:
    """Seconds per step."""
    network.train().to(memory_format=torch.channels_last)
    part.prepare(network, batches.seed)
    model, optimizer = fabric.setup(network, make_optimizer(network, training, part.head))
    started, n_timed = 0.0, 0
    for step, (inputs, labels) in enumerate(batches.epoch(0, fabric.device)):
        if step == WARM_UP_STEPS:
            started = time.perf_counter()
        loss, _ = training_step(fabric, model, optimizer, training, smoothed_cross_entropy(training), inputs, labels)
        loss.item()
        n_timed = step + 1 - WARM_UP_STEPS
        if n_timed >= TIMED_STEPS or (n_timed > 0 and time.perf_counter() - started > TIMED_SECONDS):
            break
    if n_timed < 1:  # fewer batches than warm-up steps: an epoch is over at once, whatever a step takes
        return 0.0
    return (time.perf_counter() - started) / n_timed


def _time_inference(fabric: Fabric, network: nn.Module, splits: Splits) -> float:
    """Seconds per image."""
    images = splits.validation.samples
    images = images.take(torch.arange(min(500, len(images))))
    compute_logits(fabric, network, images, splits.preprocessing)
    started = time.perf_counter()
    compute_logits(fabric, network, images, splits.preprocessing)
    return (time.perf_counter() - started) / len(images)
