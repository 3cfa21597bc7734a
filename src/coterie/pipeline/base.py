"""The first stage: the base, trained here, brought by the user, or taken from another run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from coterie.arrays import FloatArray
from coterie.backbones import Head
from coterie.backbones.class_order import refuse_other_order
from coterie.backbones.parts import TrainedPart
from coterie.config import FitSettings
from coterie.config.changes import changed_settings
from coterie.errors import ArtifactError
from coterie.pages.format import points
from coterie.pipeline.job import Job
from coterie.pipeline.prepare import Prepared, disk_bound, training_batches_of
from coterie.pipeline.threads import ThreadWatch
from coterie.pipeline.timing import cpu_threads
from coterie.progress import SILENT
from coterie.run.contents import HISTORY_FILE, read_history, write_history
from coterie.run.folder import Run
from coterie.run.manifest import RefitRecord
from coterie.run.names import BASE_FILE, SKIPPED_FILE, base_logits_file
from coterie.run.values import write_head, write_preprocessing
from coterie.system.files import write_whole
from coterie.system.ranks import Ranks, forget_launcher_variables
from coterie.training.fabric import make_fabric
from coterie.training.hooks import NO_HOOK, TrainingHook
from coterie.training.linear_probe import can_be_probed, fitted_head
from coterie.training.loop import train
from coterie.training.process import configure_process
from coterie.training.together import RankHook, leave

# What a trained base depends on.
BASE_SETTINGS = {"data", "backbone", "weights", "init", "names", "head", "refit_head", "base", "seed"}
# A fitted head takes the place of the trained one where it is this many standard errors better.
ERRORS_TO_REFIT = 1.28


@dataclass(frozen=True, eq=False)
class TrainedBase:
    """A trained base: its network and head, the part of it that specialists train, and its logits of the validation
    samples, float32 of shape (N, C).
    """

    network: nn.Module
    head: Head
    part: TrainedPart
    validation_NC: FloatArray


def train_base(job: Job) -> TrainedBase:
    """The base, trained, with all that the run folder says of base and data.

    Raises:
        ArtifactError: the data has changed since the run was begun, or the base that came trained has.
        BackboneError: a trained base whose classes are in another order than the data's.
    """
    run, prepared, base = job.run, job.prepared, job.prepared.base
    _describe(run, prepared)
    if HISTORY_FILE in run.manifest.files and not run.has(HISTORY_FILE):
        write_history(run, {})
        job.progress.note(f"{run.path / HISTORY_FILE} was lost, and with it the curves of what is trained already")
    if note := run.note_versions():
        job.progress.note(note)
    if prepared.base_run is not None and not run.has(BASE_FILE):
        _take_base(run, prepared.base_run)
    if base.trained and prepared.base_run is None:
        _keep_brought_base(run, base.network)
    network = _train(job)
    if prepared.base_run is None:
        refit_head(job, network)
    # Apart from the weights: whoever wants label embeddings need not build the base.
    write_head(run, base.head.of(network))
    validation_NC = job.logits(BASE_FILE, network, "validation", len(job.splits.labels), "base on validation")
    # A base that was built here has its head in the data's order.
    if base.trained:
        refuse_other_order(validation_NC, job.splits.validation.labels_N.numpy())
    return TrainedBase(network, base.head, base.part, validation_NC)


def help_train_base(settings: FitSettings, prepare: Callable[[], Prepared]) -> None:
    """The part of a rank other than 0: to help with the training of the base, if rank 0 wants it trained.

    Args:
        settings: of the run.
        prepare: reads the data and builds the base, where they are needed.
    """
    forget_launcher_variables()
    ranks = Ranks.of_environment()
    ranks.check_batch_size(settings.base.batch_size)
    configure_process(settings.hardware)
    fabric = make_fabric(settings.hardware, ranks=ranks)
    if fabric.broadcast(True):  # what comes back is what rank 0 says
        prepared = prepare()
        # Once more, now that it is known which precision the inputs want.
        fabric = make_fabric(settings.hardware, prepared.splits.preprocessing, ranks)
        batches = training_batches_of(prepared, prepared.splits.train, settings.base, settings.seed)
        batches.share_out(ranks)
        train(
            fabric,
            prepared.base.network,
            batches,
            settings.base,
            SILENT,
            part=prepared.base.whole,
            hook=RankHook(fabric, NO_HOOK),
            compile_network=settings.hardware.compile,
        )
    leave(fabric)


def dismiss_helpers(settings: FitSettings) -> None:
    """Tell other ranks, where there are any, that the base is there already."""
    ranks = Ranks.of_environment()
    if ranks.world > 1:
        fabric = make_fabric(settings.hardware, ranks=ranks)
        fabric.broadcast(False)
        leave(fabric)


def _describe(run: Run, prepared: Prepared) -> None:
    """Write what the run is made of, and delete what killed processes left."""
    # Data that changed between two starts would make one run of two.
    data, before = prepared.data_record, run.manifest.data
    if before is not None and not before.same_samples(data):
        raise ArtifactError(
            f"the data of {prepared.settings.data.source} has changed since {run.path} was begun; choose another --out"
        )
    run.sweep()
    write_preprocessing(run, prepared.splits.preprocessing)
    run.update(
        settings=prepared.settings,
        data=data,
        train_counts=prepared.splits.train_counts,
        head=prepared.base.head,
        network=prepared.base.form,
        disk_bytes=disk_bound(prepared),
        trunk=prepared.trunk,
    )
    if skipped := prepared.splits.skipped:
        # Names of files may hold bytes that are no UTF-8.
        write_whole(run.place(SKIPPED_FILE), "\n".join([*skipped, ""]).encode(errors="surrogateescape"))


def _train(job: Job) -> nn.Module:
    """Train the base, with the help of other ranks where there are any; read it where it is there."""
    settings, ranks = job.settings, Ranks.of_environment()
    network = job.prepared.base.network
    if ranks.world == 1:
        return _train_alone(job)
    ranks.check_batch_size(settings.base.batch_size)
    fabric = make_fabric(settings.hardware, job.splits.preprocessing, ranks)
    needed = not job.run.has(BASE_FILE)
    # Only the folder of rank 0 tells whether the others are needed; they wait for the answer.
    fabric.broadcast(needed)
    if needed:
        job.progress.note(
            f"base: {ranks.world} ranks take {settings.base.batch_size // ranks.world} of each batch of "
            f"{settings.base.batch_size}; the learning rate is {settings.base.learning_rate}, as set"
        )
    base = job.train_network("base", BASE_FILE, network, settings.base, settings.seed, fabric)
    # The other ranks end here, and leave their devices to the specialists.
    leave(fabric)
    return base


def _train_alone(job: Job) -> nn.Module:
    """Train the base with the threads that were chosen for it; what comes after it has this process's own again."""
    settings, prepared, most = job.settings, job.prepared, torch.get_num_threads()

    def watch(hook: TrainingHook) -> TrainingHook:
        return ThreadWatch(hook, job.run, job.progress, most=most, adapts=prepared.base_threads is not None)

    with cpu_threads(prepared.base_threads or most):
        return job.train_network("base", BASE_FILE, prepared.base.network, settings.base, settings.seed, watch=watch)


def refit_head(job: Job, network: nn.Module) -> None:
    """Fit a head to the features of a base that was fine-tuned here, and let it take the trained one's place if it is
    clearly better: in a short fine-tuning with strong augmentation the head lags behind the rest
    (docs/what-helps.md).
    """
    run, splits, head = job.run, job.splits, job.prepared.base.head
    if job.settings.start is None or not job.settings.refit_head:
        return
    # A base of an earlier version that is in use already stays as it is.
    in_use = run.manifest.refit is not None or run.has(base_logits_file("validation"))
    if in_use or not can_be_probed(network, head):
        return
    validation = splits.validation
    state, fitted_NC, before_NC = fitted_head(
        job.fabric, network, head, splits.train, validation, splits.preprocessing, job.progress
    )
    fitted_N, before_N = (each.argmax(1) == validation.labels_N.numpy() for each in (fitted_NC, before_NC))
    change_N = fitted_N.astype(float) - before_N
    gained, error = float(change_N.mean()), float(change_N.std() / np.sqrt(len(change_N)))
    taken = gained > ERRORS_TO_REFIT * error
    if taken:
        network.get_submodule(head.path).load_state_dict(state)
        run.write_weights(BASE_FILE, network)
    run.update(refit=RefitRecord(gain=gained, error=error, taken=taken))
    fate = "takes the place of the trained one" if taken else "is left"
    job.progress.note(
        f"base: a head that is fitted to its features gains {points(gained)} points on validation (standard error "
        f"{100 * error:.2f}), and {fate}; --no-refit-head fits none"
    )


def _take_base(run: Run, other: Run) -> None:
    """Copy another run's trained base, with its history and the seconds it took.

    Raises:
        ArtifactError: that run has no trained base, or one that these settings would not have given.
    """
    if not other.has(BASE_FILE):
        raise ArtifactError(f"{other.path} has no trained base yet")
    changed = changed_settings(other.settings, run.settings, BASE_SETTINGS)
    if changed:
        raise ArtifactError(f"the base of {other.path} is not the one of this run; they differ in {'; '.join(changed)}")
    write_history(run, {title: epochs for title, epochs in read_history(other).items() if title == "base"})
    run.write(BASE_FILE, other.read(BASE_FILE), seconds={BASE_FILE: other.manifest.seconds[BASE_FILE]})


def _keep_brought_base(run: Run, network: nn.Module) -> None:
    """Keep the weights of a base that came trained; or make sure that they are those that the run began with.

    Raises:
        ArtifactError: they are others.
    """
    if not run.has(BASE_FILE):
        write_history(run, {})
        run.write_weights(BASE_FILE, network, seconds={BASE_FILE: 0.0})
        return
    kept = run.read_tensors(BASE_FILE)
    ours = network.state_dict()
    if kept.keys() != ours.keys() or not all(torch.equal(kept[name], ours[name].cpu()) for name in kept):
        raise ArtifactError(f"the base has other weights than when {run.path} was begun; choose another --out")
