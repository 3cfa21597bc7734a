"""Controls: what else the budget of a run's specialists could have bought, from the same base and splits.

Each control is a folder RUN/controls/NAME that resumes as a run does. Those that are a partition (one cluster of all
classes, random clusters, confusion, the data set's superclasses) are ordinary runs, whose base is the run's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from scipy.special import log_softmax, logsumexp
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from coterie.arrays import FloatArray
from coterie.backbones.base import refuse_untrusted
from coterie.config import PROBE, FitSettings
from coterie.data.flipped import FlippedImages
from coterie.data.splits import Split, Splits
from coterie.errors import ArtifactError, BackboneError
from coterie.pipeline.base import refit_head
from coterie.pipeline.job import Job
from coterie.pipeline.prepare import Prepared, prepare, training_batches_of
from coterie.pipeline.runs import as_task
from coterie.progress import Progress
from coterie.routing.evaluation import Outputs
from coterie.run.contents import Kind, read_arrays
from coterie.run.folder import FinishedRun, Run
from coterie.run.load import load_ensemble
from coterie.run.names import BASE_FILE
from coterie.run.reporting import read_outputs
from coterie.run.values import n_tried, partition_of
from coterie.studies.comparison.untrained import neighbour_logits
from coterie.system.offline import offline
from coterie.training.linear_probe import can_be_probed, logistic_regression
from coterie.training.passes import compute_features, compute_logits, n_batches
from coterie.training.process import configure_process
from coterie.vocabulary import SplitName

# Members of a deep ensemble have the run's seed plus multiples of this: far from the seeds of any study.
MEMBER_SEED_STEP = 100_003
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


# The controls by name. Without any training, what the base's features say of the samples; one copy of the base, trained
# on all classes for the specialists' epochs; the base trained on in cycles of one epoch, at whose ends weights are
# kept; specialists for random clusters of the same sizes, for clusters joined by what validation confuses, for the data
# set's own superclasses; another base, of another seed.
FEATURES = "features"
ALL_CLASSES = "all-classes"
WEIGHT_AVERAGE = "weight-average"
RANDOM = "random"
CONFUSION = "confusion"
SUPERCLASSES = "superclasses"
MEMBER = "member"
# By name, the logits of the features' control.
NEIGHBOURS = "neighbours"
FITTED_HEAD = "head"


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
    epochs = round(settings.specialist_of(partition.n_clusters).epochs * times)
    return settings.model_copy(
        update={
            "specialist": settings.specialist.model_copy(update={"epochs": epochs}),
            "partition": settings.partition.model_copy(update={"together": False, "overlap": 0.0, "least_open": 0.0}),
        }
    )


def ask_features(run: FinishedRun, place: Path, splits: Splits, progress: Progress, trust: str | None = None) -> None:
    """What the base's features say of each sample, without any training: by the nearest training samples, and, where
    the base's head is one linear layer, by a head that is fitted to them. Nothing where the features are not to be had,
    or those of the training samples take more memory than data may.
    """

    def ask(job: Job) -> None:
        base = job.prepared.base
        n_bytes = 4 * len(splits.train) * base.head.of(base.network).in_features
        if n_bytes <= job.settings.data.memory_gib * 2**30:
            with suppress(BackboneError):  # its head is no layer, or sees more than one vector of a sample
                _write_features_logits(job)

    _from_base(run, place, splits, progress, trust, ask)


def _from_base(
    run: FinishedRun, place: Path, splits: Splits, progress: Progress, trust: str | None, work: Callable[[Job], None]
) -> None:
    """Do the work on a control that starts from the run's base, unless it is done already."""
    settings = as_task(control_settings(run))
    control = Run.create_or_resume(place, settings)
    with control.writing():
        if control.complete:
            return
        partition = partition_of(run.manifest)
        prepared = prepare(settings, splits=splits, base_run=run.path, partition=partition, trust=trust)
        run.read_weights(BASE_FILE, prepared.base.network)
        work(Job(prepared, control, progress))
        control.update(complete=True)


def _write_features_logits(job: Job) -> None:
    splits, base = job.splits, job.prepared.base

    def features(split: Split) -> FloatArray:
        form = splits.preprocessing
        job.progress.stage("features of the base", n_batches(split.samples, form))
        return compute_features(job.fabric, base.network, base.head, split.samples, form, job.progress)

    known_ND, label_N, n_classes = features(splits.train), splits.train.labels_N.numpy(), len(splits.labels)
    fitted = logistic_regression(known_ND, label_N) if can_be_probed(base.network, base.head) else None

    def answers(split: Split) -> dict[str, FloatArray]:
        asked_ND = features(split)
        found = {NEIGHBOURS: neighbour_logits(known_ND, label_N, asked_ND, n_classes)}
        return found if fitted is None else {**found, FITTED_HEAD: asked_ND @ fitted[0].T + fitted[1]}

    _write_logits(job, answers)


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
        _write_logits(job, lambda split: {"logits": _logits(job, network, split)}, 1)
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

    def work(job: Job) -> None:
        averaged, network = job.run, job.prepared.base.network
        files = _train_cycles(job, network)
        average = _mean_of_cycles(job, network, files)
        averaged.write_weights("average.safetensors", average)

        def answers(split: Split) -> dict[str, FloatArray]:
            proba = []
            for file in files:
                averaged.read_weights(file, network)
                proba.append(log_softmax(_logits(job, network, split), axis=1))
            cycles_NC = (logsumexp(proba, axis=0) - np.log(len(files))).astype(np.float32)
            return {"logits": _logits(job, average, split), "cycles": cycles_NC}

        _write_logits(job, answers, 1 + len(files))
        averaged.forget(files)

    _from_base(run, place, splits, progress, trust, work)


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


def add_flipped(run: Run, splits: Splits, progress: Progress, trust: str | None = None) -> None:
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
        samples = FlippedImages(data.samples)
        progress.stage(f"mirrored images of {split}", ensemble.panel.n_steps(samples))
        outputs = ensemble.outputs(samples, data.labels_N.numpy(), progress)
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


def _write_logits(job: Job, answers: Callable[[Split], dict[str, FloatArray]], n_passes: int = 0) -> None:
    """Logits by name, of each split and, where a mirror keeps the class, of its mirrored images: each a stage of so
    many passes; of 0, ``answers`` has stages of its own.
    """
    for split in SPLITS:
        data: Split = getattr(job.splits, split)
        views = {"": data}
        if job.splits.flip:
            views["-flipped"] = Split(FlippedImages(data.samples), data.labels_N)
        for suffix, view in views.items():
            if n_passes:
                job.progress.stage("answers", n_passes * n_batches(view.samples, job.splits.preprocessing))
            job.run.write_arrays(f"logits/{split}{suffix}.safetensors", answers(view))


def _logits(job: Job, network: nn.Module, split: Split) -> FloatArray:
    return compute_logits(job.fabric, network, split.samples, job.splits.preprocessing, progress=job.progress)


def _mean(tensors: list[Tensor]) -> Tensor:
    stacked = torch.stack(tensors)
    # A norm's count of batches is a whole number; update_bn sets it anew.
    return stacked.mean(0) if stacked.is_floating_point() else tensors[-1]
