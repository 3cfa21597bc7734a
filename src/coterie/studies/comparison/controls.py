"""Controls: what else the budget of a run's specialists could have bought, from the same base and splits.

Each control is a folder RUN/controls/NAME that resumes as a run does. Those that are a partition (one cluster of all
classes, random clusters, confusion, the data set's superclasses) are ordinary runs, whose base is the run's.
"""

from __future__ import annotations

import copy
import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from scipy.special import log_softmax, logsumexp
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from typing_extensions import override

from coterie.arrays import FloatArray
from coterie.backbones.base import refuse_untrusted
from coterie.config import PROBE, FitSettings, PartitionSettings
from coterie.data.flipped import FlippedImages
from coterie.data.splits import Split, Splits
from coterie.engine import Task, TaskContext
from coterie.errors import ArtifactError
from coterie.partition import random_partition
from coterie.pipeline.base import refit_head
from coterie.pipeline.job import Job
from coterie.pipeline.prepare import Prepared, prepare, training_batches_of
from coterie.pipeline.runs import FitTask, TitledProgress, as_task, check_folder
from coterie.progress import Progress
from coterie.routing.evaluation import Outputs
from coterie.run.contents import Kind, read_arrays
from coterie.run.folder import FinishedRun, Run
from coterie.run.load import load_ensemble
from coterie.run.manifest import MANIFEST
from coterie.run.names import BASE_FILE
from coterie.run.reporting import read_outputs
from coterie.run.values import base_came_trained, n_tried, partition_of
from coterie.system.files import write_whole
from coterie.system.offline import offline
from coterie.training.fabric import configure_process
from coterie.training.passes import compute_logits
from coterie.vocabulary import SplitName

# Members of a deep ensemble have the run's seed plus multiples of this: far from the seeds of any study.
MEMBER_SEED_STEP = 100_003
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


# The controls by name: one copy of the base, trained on all classes for the specialists' epochs; the base trained on in
# cycles of one epoch, at whose ends weights are kept; specialists for random clusters of the same sizes, for clusters
# joined by what validation confuses, for the data set's own superclasses; another base, of another seed.
ALL_CLASSES = "all-classes"
WEIGHT_AVERAGE = "weight-average"
RANDOM = "random"
CONFUSION = "confusion"
SUPERCLASSES = "superclasses"
MEMBER = "member"


def controls_folder(run: Path) -> Path:
    """Where a run's controls are.

    Raises:
        ArtifactError: it is a link, or one of them is, which may lead anywhere.
    """
    folder = run / "controls"
    for place in (folder, *folder.glob("*")):
        if place.is_symlink():
            raise ArtifactError(f"{place} is a link; the controls of a run are read and trained in its folder alone")
    return folder


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

    tasks = {
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


def control_settings(run: FinishedRun) -> FitSettings:
    """A run's settings for one partition with all the training of its specialists: where several partitions were
    tried, or each class is in several clusters, of partitions side by side or of a cover, so many times the epochs.
    Nothing is logged outside the run's folder.
    """
    settings = run.settings.untracked()
    if settings.specialist.trainable == PROBE:
        # A probe of other clusters is no control of one: what the base gains by training is. And it would start from a
        # file or a hub that only the settings name.
        specialist = settings.specialist.model_copy(update={"trainable": "all"})
        settings = settings.model_copy(update={"specialist": specialist})
    partition = partition_of(run.manifest)
    times = n_tried(run.manifest) * len(partition.packed_class_M) / partition.n_classes
    epochs = round(settings.specialist.epochs * times)
    return settings.model_copy(
        update={
            "specialist": settings.specialist.model_copy(update={"epochs": epochs}),
            "partition": settings.partition.model_copy(update={"together": False, "overlap": 0.0}),
        }
    )


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
            add_flipped(run, shared, self.settings.backbone)
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


def train_member(
    run: FinishedRun, place: Path, number: int, splits: Splits, progress: Progress, trust: str | None = None
) -> None:
    """Another base on the same splits, from another seed; its logits are kept."""
    settings = as_task(run.settings)
    changed = settings.with_seed(settings.seed + number * MEMBER_SEED_STEP)
    member = Run.create_or_resume(place, changed)
    with member.writing():
        if member.complete:
            return
        prepared = _fresh(run, changed, splits, trust)
        job, network = Job(prepared, member, progress), prepared.base.network
        job.train_network("another base", BASE_FILE, network, changed.base, changed.seed)
        refit_head(job, network)
        _write_logits(job, lambda samples: _logits(job, network, samples))
        member.update(complete=True)


def _fresh(run: FinishedRun, settings: FitSettings, splits: Splits, trust: str | None) -> Prepared:
    """The run's base before it was trained, drawn anew with the settings' seed."""
    partition = partition_of(run.manifest)
    if settings.start is None:
        # Built as the run's was, of what the run says, whose weights are not read.
        return prepare(settings, splits=splits, base_run=run.path, partition=partition, trust=trust)
    refuse_untrusted(settings.backbone, trust)
    # It starts where the run's did, with another head; a stranger's run does not say what is fetched.
    with offline("training another base"):
        return prepare(settings, splits=splits, partition=partition)


def train_weight_average(
    run: FinishedRun, place: Path, splits: Splits, progress: Progress, trust: str | None = None
) -> None:
    """The base trained on, in cycles of one epoch from the specialists' learning rate down to 0. Kept are the logits
    of the mean of the weights at the cycles' ends (Izmailov 2018, arXiv 1803.05407, with its norms measured anew), and
    the log of the mean of their probabilities (Huang 2017, arXiv 1704.00109).
    """
    settings = as_task(control_settings(run))
    averaged = Run.create_or_resume(place, settings)
    with averaged.writing():
        if averaged.complete:
            return
        partition = partition_of(run.manifest)
        prepared = prepare(settings, splits=splits, base_run=run.path, partition=partition, trust=trust)
        job = Job(prepared, averaged, progress)
        network = prepared.base.network
        run.read_weights(BASE_FILE, network)
        files = _train_cycles(job, network)
        average = _mean_of_cycles(job, network, files)
        averaged.write_weights("average.safetensors", average)

        def cycles(split: Split) -> FloatArray:
            proba = []
            for file in files:
                averaged.read_weights(file, network)
                proba.append(log_softmax(_logits(job, network, split), axis=1))
            return (logsumexp(proba, axis=0) - np.log(len(files))).astype(np.float32)

        _write_logits(job, lambda split: _logits(job, average, split), cycles=cycles)
        averaged.forget(files)
        averaged.update(complete=True)


def _train_cycles(job: Job, network: nn.Module) -> list[str]:
    """Train on in cycles of one epoch; returns the files of the weights at their ends."""
    settings = job.settings
    one_epoch = settings.specialist.model_copy(update={"epochs": 1})
    n_cycles = settings.specialist.epochs
    files = [f"cycles/{cycle}.safetensors" for cycle in range(n_cycles)]
    for cycle, file in enumerate(files):
        title = f"cycle {cycle + 1} of {n_cycles}"
        job.train_network(title, file, network, one_epoch, settings.seed + 1 + cycle)
    return files


def _mean_of_cycles(job: Job, network: nn.Module, files: Sequence[str]) -> nn.Module:
    """The mean of the weights in the files, its norms measured anew on the training samples."""
    average = copy.deepcopy(network)
    states = [job.run.read_tensors(file) for file in files]
    average.load_state_dict({name: _mean([state[name] for state in states]) for name in states[0]})
    batches = training_batches_of(job.prepared, job.splits.train, job.settings.specialist, job.settings.seed)
    with job.fabric.autocast():
        update_bn(batches.epoch(0, job.fabric.device), average)
    return average


def add_flipped(run: Run, splits: Splits, trust: str | None = None) -> None:
    """What base and specialists of a finished run say of the mirrored images, where a mirror keeps the class.

    Raises:
        ArtifactError: as ``load_ensemble``, with this ``trust``.
    """
    if not splits.flip or run.has(flipped_file("test")):
        return
    configure_process(run.settings.hardware)
    ensemble = load_ensemble(run.path, trust=trust)
    for split in SPLITS:
        data: Split = getattr(splits, split)
        outputs = ensemble.outputs(FlippedImages(data.samples), data.labels_N.numpy())
        run.write_arrays(flipped_file(split), {"base_NC": outputs.base_NC, "packed_NM": outputs.packed_NM})


def flipped_file(split: str) -> str:
    """Where the logits of a split's mirrored images are."""
    return f"logits/{split}-flipped.safetensors"


def read_flipped(run: Run, split: str) -> Outputs:
    """The inverse of ``add_flipped``.

    Raises:
        ArtifactError: the run has none, or they are not of its samples and classes.
    """
    if not run.has(flipped_file(split)):
        raise ArtifactError(f"{run.path} has no logits of mirrored images")
    plain = read_outputs(run, split)
    sizes = dict(zip("NCM", (*plain.base_NC.shape, plain.packed_NM.shape[1]), strict=True))
    kinds: dict[str, tuple[Kind, str]] = {"base_NC": ("numbers", "NC"), "packed_NM": ("numbers", "NM")}
    arrays = read_arrays(run, flipped_file(split), kinds, sizes)
    return replace(plain, base_NC=arrays["base_NC"], packed_NM=arrays["packed_NM"])


def _write_logits(job: Job, logits: Callable[[Split], FloatArray], **others: Callable[[Split], FloatArray]) -> None:
    """Logits of each split and, where a mirror keeps the class, of its mirrored images."""
    for split in SPLITS:
        data: Split = getattr(job.splits, split)
        views = {"": data}
        if job.splits.flip:
            views["-flipped"] = Split(FlippedImages(data.samples), data.labels_N)
        for suffix, view in views.items():
            arrays = {name: values(view) for name, values in {"logits": logits, **others}.items()}
            job.run.write_arrays(f"logits/{split}{suffix}.safetensors", arrays)


def _logits(job: Job, network: nn.Module, split: Split) -> FloatArray:
    return compute_logits(job.fabric, network, split.samples, job.splits.preprocessing)


def _mean(tensors: list[Tensor]) -> Tensor:
    stacked = torch.stack(tensors)
    # A norm's count of batches is a whole number; update_bn sets it anew.
    return stacked.mean(0) if stacked.is_floating_point() else tensors[-1]
