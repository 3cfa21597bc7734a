"""What a run will train and about how long that takes, before it starts; and how long it takes after all."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from typing_extensions import override

from coterie.backbones.packages import MINILM
from coterie.backbones.parts import WHOLE
from coterie.config import PROBE, TrainingSettings
from coterie.inputs.encoder import is_installed
from coterie.pages.format import rough_duration
from coterie.pipeline.prepare import Prepared, disk_bound
from coterie.pipeline.timing import cpu_threads, inference_seconds, training_seconds
from coterie.progress import Progress
from coterie.system.load import OthersLoad
from coterie.system.units import how_many

# A plan is corrected where the first epoch says that the run takes this many times as long, or as short.
FAR_OFF = 4 / 3


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
    ``disk_bytes``: what the run folder takes at most; ``others``: cores that other processes kept busy while it was
    timed; ``frozen_seconds``: of learning on the embeddings of the base as it comes instead, if it is an encoder.
    """

    stages: tuple[PlannedStage, ...]
    parameters: int
    device: str
    precision: str
    disk_bytes: int
    others: float = 0.0
    frozen_seconds: float | None = None

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(stage.seconds for stage in self.stages)

    def times(self, factor: float) -> Plan:
        """The plan of a machine that takes so many times as long."""
        return replace(self, stages=tuple(replace(each, seconds=each.seconds * factor) for each in self.stages))


def make_plan(prepared: Prepared) -> Plan:
    """Time a few real training steps and forward passes, and count what the run consists of.

    Args:
        prepared: of the run; its base is left as it is.
    """
    settings, splits, base = prepared.settings, prepared.splits, prepared.base
    load = OthersLoad()
    with cpu_threads(prepared.base_threads or torch.get_num_threads()):
        step_seconds = training_seconds(settings, splits, base, prepared.fabric, base.whole)
    part_seconds = (
        step_seconds if base.part is WHOLE else training_seconds(settings, splits, base, prepared.fabric, base.part)
    )
    image_seconds = inference_seconds(splits, base, prepared.fabric)
    others = load.cores()
    tail_share = 1.0 if prepared.trunk is None else prepared.trunk.pass_cost
    if prepared.trunk is not None and settings.specialist.kept_views:
        # The trunk, which was timed in each step, is run once a view.
        skipped = (1 - tail_share) * (1 - settings.specialist.kept_views / settings.specialist.epochs)
        part_seconds = max(part_seconds - skipped * image_seconds * settings.base.batch_size, 0.0)
    stages = []
    if not base.trained and prepared.base_run is None:
        stages.append(_training_stage("base", settings.base, len(splits.train), step_seconds, settings.base.batch_size))
    tried = prepared.n_clusters
    n_images = round(len(splits.train) * (1 + settings.partition.overlap))
    for n_clusters in tried:
        title = how_many(n_clusters, "specialist")
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
        sum(parameter.numel() for parameter in base.network.parameters()),
        str(prepared.fabric.device),
        prepared.fabric._precision.precision,
        disk_bound(prepared),
        others,
        # A pass over all texts: what is learned of them then takes next to nothing.
        (len(splits.train) + alone) * image_seconds if settings.backbone == MINILM and is_installed("minilm") else None,
    )


def _training_stage(
    title: str, training: TrainingSettings, n_images: int, step_seconds: float, timed_batch: int
) -> PlannedStage:
    batch_size = min(training.batch_size, n_images)
    steps = training.epochs * (n_images // batch_size)
    seconds = steps * step_seconds * batch_size / timed_batch
    return PlannedStage(title, n_images, training.epochs, steps, seconds)


class CorrectedPlan(Progress):
    """Passes on how far a run is, and says once, after the base's first epoch, if the plan was far off.

    Args:
        inner: that it is passed on to.
    """

    def __init__(self, inner: Progress) -> None:
        self.inner = inner
        self.plan: Plan | None = None
        self.steps_left = 0
        self.started = 0.0

    @override
    def stage(self, title: str, steps: int) -> None:
        self.inner.stage(title, steps)
        first = self.plan.stages[0] if self.plan else None
        self.steps_left = steps // first.epochs if first and title == first.title else 0
        self.started = time.monotonic()

    @override
    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        self.inner.advance(steps, n_images, loss, accuracy)
        if self.plan is None or self.steps_left <= 0:
            return
        if loss is None:  # done in an earlier start, which may have been on another machine
            self.started = time.monotonic()
            return
        self.steps_left -= steps
        if self.steps_left <= 0:
            first, before = self.plan.stages[0], self.plan.seconds
            seconds = time.monotonic() - self.started
            if first.seconds > 0:  # where it was too short to be timed, it says nothing of the rest
                self._correct(self.plan.times(seconds * first.epochs / first.seconds), before)

    def _correct(self, plan: Plan, before: float) -> None:
        if self.plan and not 1 / FAR_OFF < plan.seconds / max(before, 1e-9) < FAR_OFF:
            now, then = rough_duration(plan.seconds), rough_duration(before)
            self.inner.note(f"by the first epoch, the whole run takes about {now} in place of {then}")
        self.plan = None

    @override
    def lane(self) -> Progress:
        return self.inner.lane()

    @override
    def note(self, text: str) -> None:
        self.inner.note(text)
