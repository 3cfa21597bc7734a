"""Seconds that a training step and a forward pass take, measured on copies of a network."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric

from coterie.backbones.base import Base
from coterie.backbones.parts import TrainedPart
from coterie.config import FitSettings
from coterie.data.batches import augmentation_of, training_batches
from coterie.data.splits import Splits
from coterie.training.depthwise import depthwise_gradients
from coterie.training.loop import make_optimizer, smoothed_cross_entropy, training_step
from coterie.training.passes import compute_logits

# Enough steps for kernels and caches to settle; a step of a large network on a CPU is long, hence the time limit.
WARM_UP_STEPS = 2
TIMED_STEPS = 8
TIMED_SECONDS = 4.0


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Compute with so many CPU threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def training_seconds(settings: FitSettings, splits: Splits, base: Base, fabric: Fabric, part: TrainedPart) -> float:
    """Seconds per step of the base's training, of all of it or a part; 0 where there are fewer batches than warm-up
    steps: an epoch is over at once, whatever a step takes.
    """
    batches = training_batches(
        splits.train,
        splits.preprocessing,
        augmentation_of(settings.data, splits),
        batch_size=settings.base.batch_size,
        seed=settings.seed,
        workers=0,
        balanced=settings.data.sampling == "balanced",
    )
    # A copy, so that the base stays on the device and in the mode that it had.
    network = copy.deepcopy(base.network).train().to(memory_format=torch.channels_last)
    part.prepare(network, batches.seed)
    model, optimizer = fabric.setup(network, make_optimizer(network, settings.base, part.head))
    loss_of = smoothed_cross_entropy(settings.base)
    started, n_timed = 0.0, 0
    with depthwise_gradients(fabric, network):
        for step, (inputs, labels) in enumerate(batches.epoch(0, fabric.device)):
            if step == WARM_UP_STEPS:
                started = time.perf_counter()
            loss, _ = training_step(fabric, model, optimizer, settings.base, loss_of, inputs, labels)
            loss.item()
            n_timed = step + 1 - WARM_UP_STEPS
            if n_timed >= TIMED_STEPS or (n_timed > 0 and time.perf_counter() - started > TIMED_SECONDS):
                break
    return (time.perf_counter() - started) / n_timed if n_timed > 0 else 0.0


def epoch_seconds(settings: FitSettings, splits: Splits, base: Base, fabric: Fabric) -> float:
    """Seconds of an epoch of the base's training."""
    steps = max(1, len(splits.train) // settings.base.batch_size)
    return steps * training_seconds(settings, splits, base, fabric, base.whole)


def inference_seconds(splits: Splits, base: Base, fabric: Fabric) -> float:
    """Seconds per sample of a forward pass of the base."""
    samples = splits.validation.samples
    samples = samples.take(torch.arange(min(500, len(samples))))
    network = copy.deepcopy(base.network)
    compute_logits(fabric, network, samples, splits.preprocessing)
    started = time.perf_counter()
    compute_logits(fabric, network, samples, splits.preprocessing)
    return (time.perf_counter() - started) / len(samples)
