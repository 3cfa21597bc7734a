"""Who trains what control: tasks for an engine."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from typing_extensions import override

from coterie.backbones.base import refuse_untrusted
from coterie.config import PartitionSettings
from coterie.data.splits import Splits
from coterie.engine import Task, TaskContext
from coterie.partition import random_partition
from coterie.pipeline.runs import FitTask, TitledProgress, check_folder
from coterie.progress import Progress
from coterie.run.folder import FinishedRun, Run
from coterie.run.manifest import MANIFEST
from coterie.run.values import base_came_trained, partition_of
from coterie.studies.comparison.controls import (
    ALL_CLASSES,
    CONFUSION,
    FEATURES,
    MEMBER,
    RANDOM,
    SUPERCLASSES,
    WEIGHT_AVERAGE,
    add_flipped,
    ask_features,
    control_settings,
    controls_folder,
    flipped_file,
    train_member,
    train_weight_average,
)
from coterie.system.files import write_whole

ControlTask = Task[Splits | None, Path]


def control_tasks(
    run: FinishedRun,
    splits: Splits,
    superclasses: str | None,
    members: int,
    prefix: str = "",
    trust: str | None = None,
) -> list[ControlTask]:
    """What trains the controls that a finished run lacks, cheapest first.

    Args:
        run: a finished run.
        splits: its data.
        superclasses: given groups of the classes, as ``partition.groups``; None where the data set has none.
        members: further bases, for deep ensembles of one more; none where the base came trained, for nobody here knows
            how.
        prefix: of the tasks' titles.
        trust: as for ``load_ensemble``.

    Raises:
        ArtifactError: the run's base can only be built by code that nobody said to trust.
    """
    # The controls are trained with the run's settings, as if they were the user's own.
    refuse_untrusted(run.settings.backbone, trust)
    settings = control_settings(run)
    folder = controls_folder(run.path)
    partition = partition_of(run.manifest)
    # Random clusters are drawn here and given as groups: the sizes are the run's, whatever its method was.
    own_S = np.bincount(partition.cluster_of_class_C)
    drawn = random_partition(own_S[own_S > 0], settings.seed).cluster_of_class_C.tolist()
    drawn_file = folder / "random.json"
    write_whole(drawn_file, json.dumps([f"random {cluster}" for cluster in drawn]).encode())
    base, place = run.path.absolute(), folder.absolute()

    def partition_control(name: str, chosen: PartitionSettings) -> ControlTask:
        changed = settings.model_copy(update={"partition": chosen}).all_given()
        return FlippedFitTask(f"{prefix}control {name}", changed, place / name, base)

    tasks: dict[str, ControlTask] = {
        FEATURES: FeaturesTask(f"{prefix}control {FEATURES}", base, place / FEATURES, trust),
        ALL_CLASSES: partition_control(ALL_CLASSES, PartitionSettings(clusters=(1,))),
        WEIGHT_AVERAGE: WeightAverageTask(f"{prefix}control {WEIGHT_AVERAGE}", base, place / WEIGHT_AVERAGE, trust),
        RANDOM: partition_control(RANDOM, PartitionSettings(method="given", groups=str(drawn_file))),
        CONFUSION: partition_control(
            CONFUSION, PartitionSettings(method="confusion", clusters=(len(partition.layers[0]),))
        ),
    }
    if superclasses is not None:
        tasks[SUPERCLASSES] = partition_control(SUPERCLASSES, PartitionSettings(method="given", groups=superclasses))
    for number in range(1, 1 + (0 if base_came_trained(run) else members)):
        name = f"{MEMBER}-{number}"
        tasks[name] = MemberTask(f"{prefix}control {name}", base, place / name, trust, number)
    return [task for name, task in tasks.items() if not is_done(place / name, splits)]


def is_done(place: Path, splits: Splits) -> bool:
    """Whether a run or control has all that is wanted of it here."""
    if not (place / MANIFEST).exists():
        return False
    run = Run.open(place)
    return run.manifest.complete and (not splits.flip or run.has(flipped_file("test")))


@dataclass(frozen=True)
class FlippedFitTask(FitTask):
    """A run, and what its networks say of the mirrored images."""

    @override
    def run(self, shared: Splits | None, context: TaskContext) -> Path:
        assert shared is not None
        super().run(shared, context)
        run = Run.open_complete(self.out)
        with run.writing():
            add_flipped(run, shared, TitledProgress(context.progress, self.title), self.settings.backbone)
        return self.out


@dataclass(frozen=True)
class _FromRunTask(Task[Splits | None, Path]):
    """A control that starts from the finished run in ``base``, in a folder of its own; ``trust``: as for
    ``load_ensemble``.
    """

    title: str
    base: Path
    out: Path
    trust: str | None

    @override
    def run(self, shared: Splits | None, context: TaskContext) -> Path:
        assert shared is not None
        check_folder(self.out)
        self.train(Run.open_complete(self.base), shared, TitledProgress(context.progress, self.title))
        return self.out

    @abstractmethod
    def train(self, run: FinishedRun, splits: Splits, progress: Progress) -> None:
        """What is done of the run."""


@dataclass(frozen=True)
class FeaturesTask(_FromRunTask):
    """``ask_features``."""

    @override
    def train(self, run: FinishedRun, splits: Splits, progress: Progress) -> None:
        ask_features(run, self.out, splits, progress, self.trust)


@dataclass(frozen=True)
class MemberTask(_FromRunTask):
    """``train_member``."""

    number: int

    @override
    def train(self, run: FinishedRun, splits: Splits, progress: Progress) -> None:
        train_member(run, self.out, self.number, splits, progress, self.trust)


@dataclass(frozen=True)
class WeightAverageTask(_FromRunTask):
    """``train_weight_average``."""

    @override
    def train(self, run: FinishedRun, splits: Splits, progress: Progress) -> None:
        train_weight_average(run, self.out, splits, progress, self.trust)
