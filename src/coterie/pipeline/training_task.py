"""The training of one specialist, as a task that any engine does."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn
from typing_extensions import override

from coterie.arrays import IntArray
from coterie.backbones import Head
from coterie.backbones.adapters import weights_of
from coterie.backbones.cut import tail_of
from coterie.backbones.deltas import decode
from coterie.backbones.parts import TrainedPart
from coterie.backbones.specialist import make_specialist
from coterie.config import PROBE, HardwareSettings, SpecialistSettings
from coterie.data.batches import Augmentation, training_batches
from coterie.data.splits import Split
from coterie.engine.task import Task, TaskContext
from coterie.inputs import Preprocessing
from coterie.measures.epochs import EpochRecord
from coterie.training.fabric import make_fabric
from coterie.training.hooks import StageHook
from coterie.training.linear_probe import ClassNames, fit_probe
from coterie.training.loop import early_stopping, train
from coterie.training.process import configure_process
from coterie.training.trunk import TrunkBatches


@dataclass(frozen=True, eq=False)
class SpecialistInputs:
    """What the trainings of a run share.

    ``base``: the trained base, with its ``head`` and the ``part`` that is trained; ``train``: all training samples,
    and the way to draw batches of them; ``validation``: its samples, where something is chosen by them; ``starts``:
    weights to start from instead of the base's, by the file of the specialist; ``initial``: what the base was before
    it was trained, where probes ask that, and ``names`` of all classes as texts, where the samples are texts;
    ``views_bytes``: that a trunk's outputs may take.
    """

    base: nn.Module
    head: Head
    part: TrainedPart
    train: Split
    preprocessing: Preprocessing
    augmentation: Augmentation
    hardware: HardwareSettings
    data_workers: int
    balanced: bool
    validation: Split | None = None
    starts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    initial: nn.Module | None = None
    names: tuple[str, ...] = ()
    views_bytes: float = math.inf


@dataclass(frozen=True, eq=False)
class Trained:
    """What ``weights_of`` a trained network gives; its history; its seconds, over all starts."""

    weights: dict[str, Tensor]
    history: tuple[EpochRecord, ...]
    seconds: float


@dataclass(frozen=True)
class TrainingTask(Task[SpecialistInputs, Trained]):
    """All that decides how a specialist is trained, but for what all of a run share.

    Args:
        title: for people.
        file: where the weights will be in the run folder.
        classes: the specialist's, in the order of its head's rows.
        training: settings of the training.
        seed: of its batches and of dropout.
        checkpoint_every: steps between two states that are kept; None: one an epoch.
        threads: of the CPU. Sums are split by them: another number gives other bits.
    """

    title: str
    file: str
    classes: tuple[int, ...]
    training: SpecialistSettings
    seed: int
    checkpoint_every: int | None
    threads: int

    @override
    def run(self, shared: SpecialistInputs, context: TaskContext) -> Trained:
        classes = np.array(self.classes)
        if self.training.trainable == PROBE:
            return self._probe(shared, classes, context)
        network = make_specialist(shared.base, shared.head, classes)
        start = shared.starts.get(self.file)
        if start is not None:
            network.load_state_dict(start)
        batches = training_batches(
            shared.train.of_classes(classes),
            shared.preprocessing,
            shared.augmentation,
            batch_size=self.training.batch_size,
            seed=self.seed,
            workers=shared.data_workers,
            balanced=shared.balanced,
        )
        configure_process(shared.hardware.model_copy(update={"threads": self.threads}))
        fabric = make_fabric(shared.hardware, shared.preprocessing)
        context.progress.stage(self.title, self.training.epochs * len(batches))
        hook = StageHook(context.checkpoint, self.checkpoint_every)
        part = shared.part if self.training.batch_norm == "train" else shared.part.with_still_norms(network)
        trained, cut = network, part.cut
        if cut is not None and self.training.views:
            batches = TrunkBatches(batches, fabric, network, cut, self.training.kept_views, shared.views_bytes)
            part.prepare(network.train(), self.seed)
            trained = tail_of(network, cut, shared.preprocessing.example())
        history = train(
            fabric,
            trained,
            batches,
            self.training,
            context.progress,
            part=replace(part, head=(shared.head.path, *shared.head.more)),
            hook=hook,
            stopping=early_stopping(fabric, network, classes, self.training, shared.validation, shared.preprocessing),
            compile_network=shared.hardware.compile,
        )
        weights = weights_of(network)
        # An adapter's weights are told as a difference from where it started, which is to be one from the base.
        return Trained(weights if start is None else decode(weights, start), history, hook.seconds)

    def _probe(self, shared: SpecialistInputs, classes: IntArray, context: TaskContext) -> Trained:
        assert shared.initial is not None
        started = time.perf_counter()
        network = make_specialist(shared.initial, shared.head, classes)
        configure_process(shared.hardware.model_copy(update={"threads": self.threads}))
        fabric, split = make_fabric(shared.hardware, shared.preprocessing), shared.train.of_classes(classes)
        names = None
        if shared.names and shared.validation is not None:
            judge = shared.validation.of_classes(classes)
            names = ClassNames([shared.names[k] for k in classes], judge) if len(judge) else None
        record = fit_probe(
            fabric, network, shared.head, split, shared.preprocessing, context.progress, self.title, names
        )
        return Trained(weights_of(network.cpu()), (record,), time.perf_counter() - started)
