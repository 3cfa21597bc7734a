"""The stages in order: Splits -> Base -> LabelEmbedding -> Partition -> Specialists -> Gate -> Ensemble -> Report.

Each stage leaves its result in the run folder, and a training its state; a run that is started again goes on from
there.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from coterie.arrays import FloatArray
from coterie.backbones import Head
from coterie.backbones.adapters import weights_of
from coterie.backbones.base import (
    Base,
    NetworkForm,
    form_of_base,
    make_base,
    name_of_module,
    rebuild_base,
    refuse_other_order,
)
from coterie.backbones.cut import tail_of, trunk_features
from coterie.backbones.deltas import decode, encode
from coterie.backbones.flops import inference_flops
from coterie.backbones.parts import WHOLE, TrainedPart, trained_part
from coterie.backbones.specialist import as_asked, make_specialist
from coterie.config import EngineSettings, FitSettings, TrainingSettings
from coterie.data import load as load_data
from coterie.data import read_groups
from coterie.data.batches import NO_AUGMENTATION, Augmentation, Batches, training_batches
from coterie.data.splits import Split, Splits
from coterie.engine import Resources, TaskContext, check_engine, make_engine
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.ensemble.panel import Panel
from coterie.errors import ArtifactError, SettingsError
from coterie.inputs import ImagePreprocessing
from coterie.label_file import read_column
from coterie.labels import LabelSpace
from coterie.measures.costs import RunCosts
from coterie.partition import (
    Partition,
    PartitionRequest,
    check_n_clusters,
    check_overlap,
    confusion_counts,
    join_confused,
    make_partition,
)
from coterie.pipeline.embedding import LabelSources, check_embedding, label_sources
from coterie.pipeline.specialists import SpecialistInputs, Trained, TrainingTask
from coterie.progress import Progress
from coterie.routing.evaluation import Outputs
from coterie.routing.tune import Tuning, TuningRequest, tune
from coterie.run.folder import CHECKPOINT_FOLDER, Run, changed_settings
from coterie.run.load import load_ensemble
from coterie.run.manifest import MANIFEST, Candidate, DataRecord, PartitionRecord, TrunkRecord
from coterie.run.names import BASE_FILE, STAGE_LOGITS, specialist_files, specialist_titles, stage_logits_folder
from coterie.run.reporting import tracked_figures, write_examples, write_outputs, write_report, write_rule
from coterie.run.values import cut_of, labels_of, preprocessing_of, specialist_seconds, write_head, write_preprocessing
from coterie.system.limits import LimitedProgress, Limits
from coterie.system.lock import hold, refuse_if_held
from coterie.system.ranks import Ranks
from coterie.training.checkpoint import CheckpointFile
from coterie.training.fabric import make_fabric
from coterie.training.hooks import StageHook, TrainingHook
from coterie.training.loop import train
from coterie.training.passes import compute_logits
from coterie.training.stopping import Stopping
from coterie.training.together import RankHook, leave
from coterie.training.tracking import Trackers, make_trackers
from coterie.vocabulary import GROUPS_COLUMN, SplitName

TIMED_IMAGES = 2048
# Report, examples, figures, manifest and logs.
OTHER_BYTES = 64 * 2**20
# What a training takes beside its weights: libraries and activations; and weights, gradients, momentum, a state or two.
MEMORY_BYTES = 2**30
MEMORY_PER_PARAMETER_BYTE = 6
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
    engine: EngineSettings = field(default_factory=EngineSettings)
    limits: Limits = field(default_factory=Limits)
    trackers: Trackers = field(default_factory=Trackers)

    def batches(self, split: Split, training: TrainingSettings, seed: int) -> Batches:
        """Training batches of a split."""
        return batches_of(self.settings, self.splits, split, training, seed)

    def train_base(self, network: nn.Module) -> nn.Module:
        """Train the base, with the help of other ranks where there are any, and keep its weights; or read them."""
        settings, ranks = self.settings, Ranks.of_environment()
        training = (self.splits.train, settings.base, settings.seed)
        if ranks.world == 1:
            return self.train_stage("base", BASE_FILE, network, *training)
        ranks.check_batch_size(settings.base.batch_size)
        fabric = make_fabric(settings.hardware, ranks)
        needed = not self.run.has(BASE_FILE)
        fabric.broadcast(needed)
        if needed:
            self.progress.note(
                f"base: {ranks.world} ranks take {settings.base.batch_size // ranks.world} of each batch of "
                f"{settings.base.batch_size}; the learning rate is {settings.base.learning_rate}, as set"
            )
        base = self.train_stage("base", BASE_FILE, network, *training, fabric=fabric)
        leave(fabric)
        return base

    def train_stage(
        self,
        title: str,
        file: str,
        network: nn.Module,
        split: Split,
        training: TrainingSettings,
        seed: int,
        part: TrainedPart = WHOLE,
        fabric: Fabric | None = None,
        beyond: nn.Module | None = None,
        further: bool = False,
        stopping: Stopping = Stopping(),  # noqa: B008 - it has no state
    ) -> nn.Module:
        """Train a network or a part of it and keep its weights in ``file``; or, if an earlier start did, read them.
        With a ``fabric`` of several ranks, these take part. Of a specialist, only what is ``beyond`` its base is kept;
        ``further``: its training does not start from its base's weights.
        """
        fabric = fabric or self.fabric
        if self.run.has(file):
            self.run.read_weights(file, network, beyond)
            return network.to(self.fabric.device).eval()
        self.limits.check()
        batches = self.batches(split, training, seed)
        batches.share_out(Ranks(fabric.global_rank, fabric.world_size))
        every = self.settings.checkpoint_every
        watch = StageHook(self._checkpoint(file), every, title, self.limits, self.trackers)
        self.progress.stage(title, training.epochs * len(batches))
        start = weights_of(network) if further else None
        history = train(
            fabric,
            network,
            batches,
            training,
            self.progress,
            part=part,
            watch=RankHook(fabric, watch),
            stopping=stopping,
            compile_network=self.settings.hardware.compile,
        )
        weights = weights_of(network)
        trained = Trained(weights if start is None else decode(weights, start), history, watch.seconds)
        if beyond is None:
            self._keep(file, title, trained)
        else:
            self._keep_specialist(file, title, trained, beyond)
        return network

    def logits(self, file: str, network: nn.Module, split: SplitName) -> FloatArray:
        """What the network whose weights are in ``file`` says of a split; or, if an earlier start asked it, said."""
        kept = f"{stage_logits_folder(split)}{file}"
        if self.run.has(kept):
            return self.run.read_arrays(kept)["logits_NC"]
        data: Split = getattr(self.splits, split)
        logits_NC = compute_logits(self.fabric, network, data.samples, self.splits.preprocessing)
        self.run.write_arrays(kept, {"logits_NC": logits_NC, "label_N": data.labels_N.numpy()})
        self.limits.check()
        return logits_NC

    def outputs(
        self, split: SplitName, base: nn.Module, partition: Partition, specialists: list[nn.Module | None]
    ) -> Outputs:
        """What base and all specialists say of a split."""
        data: Split = getattr(self.splits, split)
        base_NC, label_N = self.logits(BASE_FILE, base, split), data.labels_N.numpy()
        trained = {cluster: network for cluster, network in enumerate(specialists) if network is not None}
        trunk = self.run.manifest.trunk
        if trunk is not None:
            panel = Panel(self.fabric, base, trained, self.splits.preprocessing, trunk.cut)
            return Outputs(base_NC, panel.ask_all(data.samples, partition)[1], label_N, trunk.pass_cost)
        packed_NM = np.zeros((len(label_N), len(partition.packed_class_M)), dtype=np.float32)
        files = specialist_files(partition)
        for cluster, specialist in trained.items():
            packed_NM[:, partition.columns(cluster)] = self.logits(files[cluster], specialist, split)
        return Outputs(base_NC, packed_NM, label_N)

    def train_specialists(self, tasks: Sequence[TrainingTask], base: nn.Module, head: Head, part: TrainedPart) -> None:
        """Train those that an earlier start did not finish, and keep their weights in their files."""
        materials = specialist_inputs(self.settings, self.splits, base, head, part)
        todo = [task for task in tasks if not self.run.has(task.file)]
        self.limits.check()
        count_C = torch.bincount(self.splits.train.labels_N)
        most = max((int(count_C[list(task.classes)].sum()) for task in todo), default=0)
        kept_bytes = views_bytes(self.settings, self.splits, self.fabric, base, part, most)

        def context_of(number: int) -> TaskContext:
            return TaskContext(LimitedProgress(self.progress.lane(), self.limits), self._checkpoint(todo[number].file))

        resources = self._demand(base, kept_bytes)
        engine = make_engine(self.engine, len(todo), resources)
        with closing(engine.run(todo, materials, resources, context_of)) as outcomes:
            for outcome in outcomes:
                task = todo[outcome.number]
                trained = outcome.unwrap()
                self._keep_specialist(task.file, task.title, trained, base)
        if todo:  # whose results came in any order
            history = self.run.read_json("history.json")
            titles = [task.title for task in tasks if task.title in history]
            others = [title for title in history if title not in titles]
            self.run.write_json("history.json", {title: history[title] for title in (*others, *titles)})

    def _demand(self, base: nn.Module, kept_bytes: int) -> Resources:
        """What a specialist needs, and how long all should take, by what the base took."""
        settings, on_gpu = self.settings, self.fabric.device.type == "cuda"
        partitions = len(settings.partition.clusters)
        share = partitions * (1 + settings.partition.overlap) * settings.specialist.epochs / settings.base.epochs
        parameter_bytes = sum(parameter.nbytes for parameter in base.parameters())
        return Resources(
            settings.hardware.specialist_threads,
            int(on_gpu),
            MEMORY_BYTES + MEMORY_PER_PARAMETER_BYTE * parameter_bytes + kept_bytes,
            share * self.run.manifest.seconds.get(BASE_FILE, 0.0)
            or math.inf,  # of a base that came trained, nobody knows
        )

    def _checkpoint(self, file: str) -> CheckpointFile:
        """The state of the training that will leave ``file``."""
        return CheckpointFile(self.run.path / CHECKPOINT_FOLDER / file)

    def _keep_specialist(self, file: str, title: str, trained: Trained, base: nn.Module) -> None:
        """Of its weights, what is not the base's."""
        weights = encode(trained.weights, weights_of(base), self.settings.specialist.bits)
        self._keep(file, title, replace(trained, weights=weights))

    def _keep(self, file: str, title: str, trained: Trained) -> None:
        """Write what a training gave, and delete its state."""
        known = self.run.read_json("history.json") if self.run.has("history.json") else {}
        self.run.write_json("history.json", {**known, title: [record.to_values() for record in trained.history]})
        self.run.write_tensors(file, trained.weights, seconds={**self.run.manifest.seconds, file: trained.seconds})
        self._checkpoint(file).delete()
        self.trackers.epochs(title, [(record.loss, record.accuracy) for record in trained.history])


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
    engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
    limits: Limits | None = None,
) -> SpecialistEnsemble:
    """Train a specialist ensemble, from labelled images to the report.

    Started by torchrun or ``fabric run`` as several ranks, all of them train the base; then rank 0 goes on alone, and
    the others end here (SystemExit), their devices free for the specialists.

    Args:
        settings: of every stage.
        out: the run folder; one that holds an unfinished run with the same settings goes on. None keeps nothing.
        splits: data to use instead of ``settings.data.source``.
        base: a network that is trained already, from inputs (B, channels, H, W) to logits (B, C). It is copied, and
            stands in for ``settings.backbone``; to load the run, one of its form is needed again.
        base_run: a run whose trained base is taken; it had the same data, network, base settings and seed.
        progress: who is told how it goes.
        engine: who trains the specialists; it changes nothing in them.
        limits: when to stop; those of the settings, with the time counted from now, if left out.

    Raises:
        LimitError: a limit is reached; the same call goes on.
        CoterieError: see coterie.errors for what can be wrong.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="coterie-") as folder:
            return fit(
                settings,
                folder,
                splits=splits,
                base=base,
                base_run=base_run,
                progress=progress,
                engine=engine,
                limits=limits,
            )
    if Ranks.of_environment().rank > 0:
        help_train_base(settings, splits, base, base_run)
        raise SystemExit(0)
    limits = Limits(settings.max_time, settings.max_memory) if limits is None else limits
    if base is not None:
        settings = settings.model_copy(update={"backbone": name_of_module(base)})
    run = Run.create_or_resume(Path(out), settings)
    if run.manifest.complete:
        dismiss_helpers(settings)
        return load_ensemble(run.path, base=base, trust=settings.backbone)
    refuse_if_held(run.path)
    check_engine(engine)
    splits = load_splits(settings, base_run) if splits is None else splits
    prepared = prepare_base(settings, splits, base, base_run)
    with hold(run.path):
        run = Run.create_or_resume(run.path, settings)  # another process may have written since
        if run.manifest.complete:
            dismiss_helpers(settings)
            return load_ensemble(run.path, base=base, trust=settings.backbone)
        trackers = make_trackers(settings, run.path, progress)
        with closing(trackers):
            job = Job(settings, splits, make_fabric(settings.hardware), run, progress, engine, limits, trackers)
            return _fit(job, prepared, base_run)


def fit_base(
    settings: FitSettings,
    out: Path | str,
    *,
    splits: Splits,
    base_run: Path | str | None = None,
    progress: Progress = Progress(),  # noqa: B008 - it has no state
    limits: Limits | None = None,
) -> None:
    """The first stage alone: base and validation logits, of which ``coterie headroom`` tells what specialists could
    bring. ``fit`` goes on with it.

    Args:
        settings: of every stage.
        out: the run folder.
        splits: the data.
        base_run: as for ``fit``.
        progress: who is told how it goes.
        limits: as for ``fit``.

    Raises:
        CoterieError: as ``fit``.
    """
    limits = Limits(settings.max_time, settings.max_memory) if limits is None else limits
    prepared = prepare_base(settings, splits, base_run=base_run)
    with hold(Path(out)):
        run = Run.create_or_resume(Path(out), settings)
        with closing(make_trackers(settings, run.path, progress)) as trackers:
            job = Job(settings, splits, make_fabric(settings.hardware), run, progress, limits=limits, trackers=trackers)
            _make_base(job, prepared, base_run)


def views_bytes(
    settings: FitSettings, splits: Splits, fabric: Fabric, network: nn.Module, part: TrainedPart, n_samples: int
) -> int:
    """What a specialist's training keeps of the trunk's output for so many samples.

    Raises:
        SettingsError: more than data may take in memory.
    """
    views = settings.specialist.kept_views
    if part.cut is None or not views:
        return 0
    with fabric.autocast():
        view_bytes = n_samples * trunk_features(network, part.cut, splits.preprocessing.example()[:1]).nbytes
    limit = settings.data.memory_gib
    if views * view_bytes > limit * 2**30:
        raise SettingsError(
            f"specialist.views = {settings.specialist.views}: what {part.cut} gives for a cluster of {n_samples} "
            f"samples takes {view_bytes / 2**30:.2g} GiB a view, and --data.memory-gib is {limit:g}; allowed: more "
            f"memory, or up to {int(limit * 2**30 // view_bytes)} views (0 computes it anew in each epoch)"
        )
    return views * view_bytes


def refuse_views(settings: FitSettings, splits: Splits, fabric: Fabric, prepared: Base) -> None:
    """Before the clusters are known: where the least that the largest of them can be is too much.

    Raises:
        SettingsError: as ``views_bytes``.
    """
    if prepared.part.cut is None:
        return
    least = int(torch.bincount(splits.train.labels_N).max())
    if settings.partition.max_size is None:  # which may make more clusters than are asked for
        least = max(least, math.ceil(len(splits.train) / min(numbers_of_clusters(settings, splits.labels))))
    views_bytes(settings, splits, fabric, prepared.network, prepared.part, least)


def _fit(job: Job, prepared: Base, base_run: Path | str | None) -> SpecialistEnsemble:
    refuse_views(job.settings, job.splits, job.fabric, prepared)
    network, base_validation_NC = _make_base(job, prepared, base_run)
    partitions = _partitions(job, network, prepared.head, base_validation_NC)
    return complete(job, network, prepared.head, prepared.part, partitions)


def _make_base(job: Job, prepared: Base, base_run: Path | str | None) -> tuple[nn.Module, FloatArray]:
    """The base, trained, and its logits of the validation samples; all that the run folder says of them."""
    settings, splits, run, head = job.settings, job.splits, job.run, prepared.head
    data = _data_record(splits)
    if run.manifest.data not in (None, data):
        raise ArtifactError(
            f"the data of {settings.data.source} has changed since {run.path} was begun; choose another --out"
        )
    run.sweep()
    write_preprocessing(run, splits.preprocessing)
    run.update(
        settings=settings,
        data=data,
        train_counts=splits.train_counts,
        head=head,
        network=prepared.record,
        disk_bytes=disk_bound(settings, splits, prepared.network),
        trunk=trunk_record(prepared, splits.preprocessing.example()),
    )
    if note := run.note_versions():
        job.progress.note(note)
    if base_run is not None and not run.has(BASE_FILE):
        _take_base(run, Run.open(Path(base_run)))
    if prepared.trained and base_run is None:
        _keep_base(run, prepared.network)
    network = job.train_base(prepared.network)
    write_head(run, head.of(network))
    base_validation_NC = job.logits(BASE_FILE, network, "validation")
    if prepared.trained:
        refuse_other_order(base_validation_NC, splits.validation.labels_N.numpy())
    return network, base_validation_NC


def load_splits(settings: FitSettings, base_run: Path | str | None = None) -> Splits:
    """The data of a run, in the form that its base takes.

    Raises:
        DataError: as ``coterie.data.load``.
        BackboneError: as ``form_of_base``.
        ArtifactError: the run whose base is taken does not say yet what that takes.
    """
    form = form_of_base(settings) if base_run is None else preprocessing_of(Run.open(Path(base_run)))
    return load_data(settings.data, settings.seed, form)


def complete(
    job: Job, network: nn.Module, head: Head, part: TrainedPart, partitions: list[Partition]
) -> SpecialistEnsemble:
    """Train the specialists that the run folder still lacks, keep the partition that does best, and judge it."""
    settings, splits = job.settings, job.splits
    job.train_specialists(specialist_tasks(settings, partitions), network, head, part)
    tried = [Partition.stack(partitions)] if settings.partition.together and len(partitions) > 1 else partitions
    groupings = [_make_grouping(job, network, head, partition) for partition in tried]
    chosen = max(groupings, key=lambda grouping: grouping.tuning.accuracy)
    ensemble = SpecialistEnsemble(
        network,
        chosen.specialists,
        chosen.partition,
        splits.labels,
        chosen.tuning.rule,
        splits.preprocessing,
        settings.hardware,
        cut_of(job.run.manifest),
    )
    _finish(job, ensemble, chosen, groupings)
    return ensemble


def help_train_base(
    settings: FitSettings,
    splits: Splits | None = None,
    base: nn.Module | None = None,
    base_run: Path | str | None = None,
) -> None:
    """What a rank other than 0 does: its part of the training of the base, if rank 0 wants it trained."""
    ranks = Ranks.of_environment()
    ranks.check_batch_size(settings.base.batch_size)
    fabric = make_fabric(settings.hardware, ranks)
    if fabric.broadcast(True):  # what comes back is what rank 0 says
        splits = load_splits(settings, base_run) if splits is None else splits
        batches = batches_of(settings, splits, splits.train, settings.base, settings.seed)
        batches.share_out(ranks)
        train(
            fabric,
            prepare_base(settings, splits, base, base_run).network,
            batches,
            settings.base,
            Progress(),
            watch=RankHook(fabric, TrainingHook()),
            compile_network=settings.hardware.compile,
        )
    leave(fabric)


def dismiss_helpers(settings: FitSettings) -> None:
    """Tell other ranks, where there are any, that the base is there already."""
    ranks = Ranks.of_environment()
    if ranks.world > 1:
        fabric = make_fabric(settings.hardware, ranks)
        fabric.broadcast(False)
        leave(fabric)


def _take_base(run: Run, other: Run) -> None:
    """Copy another run's trained base, with its history and the seconds it took.

    Raises:
        ArtifactError: that run has no trained base, or one that these settings would not have given.
    """
    if not other.has(BASE_FILE):
        raise ArtifactError(f"{other.path} has no trained base yet")
    ours, theirs = (manifest.settings for manifest in (run.manifest, other.manifest))
    changed = changed_settings(theirs, ours, BASE_SETTINGS)
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


def batches_of(settings: FitSettings, splits: Splits, split: Split, training: TrainingSettings, seed: int) -> Batches:
    """Training batches of a split, as the settings want them drawn and augmented."""
    return training_batches(
        split,
        splits.preprocessing,
        augmentation_of(settings, splits),
        batch_size=training.batch_size,
        seed=seed,
        workers=settings.data.workers,
        balanced=settings.data.sampling == "balanced",
    )


def augmentation_of(settings: FitSettings, splits: Splits) -> Augmentation:
    """The augmentation that was asked for, or that suits the data; none but for images."""
    if not isinstance(splits.preprocessing, ImagePreprocessing):
        return NO_AUGMENTATION
    flip = splits.flip if settings.data.flip is None else settings.data.flip
    return Augmentation(settings.data.crop_padding, flip, settings.data.cutout, splits.preprocessing.mean)


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
        check_overlap(settings.partition.overlap, n_clusters)
        _wish(settings, n_clusters)
    form = splits.preprocessing
    if base_run is None:
        base = make_base(settings, splits.labels, form, given)
    else:
        manifest = Run.open(Path(base_run)).manifest
        if manifest.head is None:
            raise ArtifactError(f"{base_run} has no trained base yet")
        if manifest.data is not None and manifest.data.classes != splits.labels.names:
            raise ArtifactError(f"the base of {base_run} has other classes than {settings.data.source}")
        network, head = rebuild_base(
            settings, manifest.network, manifest.head, len(splits.labels), form, given, settings.backbone
        )
        base = Base(network, head, False, manifest.network or NetworkForm())
    check_embedding(settings.partition.embedding, base, splits)
    part = trained_part(base.network, base.head, form.example(), settings.specialist.trainable)
    return replace(base, part=part)


def base_of_run(run: Run) -> tuple[Splits, Base]:
    """The data of a run and its trained base, finished or not. The folder is left as it is: a `coterie fit` may be at
    work in it.

    Raises:
        ArtifactError: its data has changed.
        CoterieError: as ``fit``, of its data and base.
    """
    settings = run.settings
    splits = load_data(settings.data, settings.seed, preprocessing_of(run))
    if splits.labels != labels_of(run.manifest):
        raise ArtifactError(f"the data of {settings.data.source} has changed since {run.path} was begun")
    base = prepare_base(settings, splits, base_run=run.path)
    run.read_weights(BASE_FILE, base.network)
    return splits, base


def disk_bound(settings: FitSettings, splits: Splits, base: nn.Module) -> int:
    """Bytes that a run takes on disk at most: weights; the state of one training, twice while it is replaced; logits,
    twice while they are put together; and the rest.
    """
    n_classes = len(splits.labels)
    numbers = numbers_of_clusters(settings, splits.labels)
    weights = sum(value.numel() * value.element_size() for value in base.state_dict().values())
    trainings = (settings.base, settings.specialist)
    # The weights of a training's best epoch, or their average.
    more = int(settings.specialist.patience is not None or any(training.average_decay for training in trainings))
    moments = max(2 if training.optimizer == "adamw" else 1 for training in trainings)
    logits = 4 * (len(splits.validation) + len(splits.test)) * n_classes * (1 + len(numbers))
    logits = round(logits * (1 + settings.partition.overlap))
    return weights * (1 + sum(numbers) + 2 * (1 + moments + more)) + 2 * logits + OTHER_BYTES


def _partitions(job: Job, base: nn.Module, head: Head, base_validation_NC: FloatArray) -> list[Partition]:
    """The partitions whose specialists are trained: those that an earlier start made, if one did.

    Raises:
        ArtifactError: the given groups have changed since.
    """
    n_classes, known = len(job.splits.labels), job.run.manifest.groupings
    if known and job.settings.partition.method != "given":
        return [Partition.from_members(members, n_classes) for members in known]
    sources = label_sources(job.fabric, job.splits, base, head, base_validation_NC)
    partitions = _make_partitions(job.settings, job.splits, sources)
    made = tuple(_members(partition) for partition in partitions)
    if known not in ((), made):
        raise ArtifactError(
            f"the groups of {job.settings.partition.groups} have changed since {job.run.path} was begun; choose "
            "another --out"
        )
    job.run.update(groupings=made)
    return partitions


def _members(partition: Partition) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(partition.classes(cluster).tolist()) for cluster in range(partition.n_clusters))


def _make_partitions(settings: FitSettings, splits: Splits, sources: LabelSources) -> list[Partition]:
    """One partition per number of clusters. Given groups and limits of size may give another number than was asked
    for; where two come to the same, the first is kept.
    """
    assert sources.proba_NC is not None  # the base was asked
    assert sources.label_N is not None
    confusion_CC = confusion_counts(sources.proba_NC, sources.label_N)
    vectors_CD = sources.embed(settings.partition.embedding).vectors_CD
    groups = _groups(settings, splits.labels)
    by_number: dict[int, Partition] = {}
    for n_clusters in numbers_of_clusters(settings, splits.labels):
        partition = make_partition(_wish(settings, n_clusters), vectors_CD, confusion_CC, groups)
        partition = join_confused(partition, sources.proba_NC, sources.label_N, settings.partition.overlap)
        by_number.setdefault(partition.n_clusters, partition)
    return list(by_number.values())


def specialist_inputs(
    settings: FitSettings, splits: Splits, base: nn.Module, head: Head, part: TrainedPart
) -> SpecialistInputs:
    """What the trainings of all specialists share."""
    return SpecialistInputs(
        {BASE_FILE: base},
        head,
        part,
        splits.train,
        splits.preprocessing,
        augmentation_of(settings, splits),
        settings.hardware,
        settings.data.workers,
        settings.data.sampling == "balanced",
        None if settings.specialist.patience is None else splits.validation,
    )


def specialist_tasks(settings: FitSettings, partitions: Sequence[Partition]) -> list[TrainingTask]:
    """The trainings of all specialists of all partitions. A cluster of one class needs none."""
    return [
        TrainingTask(
            title=titles[cluster],
            file=files[cluster],
            start=BASE_FILE,
            classes=tuple(partition.classes(cluster).tolist()),
            training=settings.specialist,
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


def _make_grouping(job: Job, base: nn.Module, head: Head, partition: Partition) -> Grouping:
    specialists: list[nn.Module | None] = []
    for cluster, file in enumerate(specialist_files(partition)):
        classes = partition.classes(cluster)
        if len(classes) == 1:
            specialists.append(None)
            continue
        specialist = make_specialist(base, head, classes)
        job.run.read_weights(file, specialist, base)
        specialists.append(as_asked(specialist, cut_of(job.run.manifest), job.splits.preprocessing.example()))
    validation = job.outputs("validation", base, partition, specialists)
    tuning = tune(validation, partition, TuningRequest.of(job.settings.gate), job.settings.seed)
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


def _wish(settings: FitSettings, n_clusters: int) -> PartitionRequest:
    return PartitionRequest(settings.partition.method, n_clusters, settings.partition.max_size, settings.seed)


def _finish(job: Job, ensemble: SpecialistEnsemble, chosen: Grouping, groupings: list[Grouping]) -> None:
    """Judge the ensemble on the test split, and leave all that the run folder still lacks."""
    run, splits, partition = job.run, job.splits, chosen.partition
    job.progress.stage("evaluation", 3)
    test = job.outputs("test", ensemble.base, partition, chosen.specialists)
    job.progress.advance(1)
    candidates = tuple(Candidate(clusters=g.partition.n_clusters, accuracy=g.tuning.accuracy) for g in groupings)
    run.update(
        partition=PartitionRecord(members=_members(partition), candidates=candidates, layers=partition.layer_S),
        costs=_measure_costs(job, ensemble),
    )
    job.progress.advance(1)
    write_outputs(run, "validation", chosen.validation)
    write_outputs(run, "test", test)
    write_rule(run, chosen.tuning)
    write_examples(run, test, partition, ensemble.rule, splits)
    write_report(run, datetime.now(UTC).date().isoformat())
    for grouping in groupings:
        if grouping is not chosen:
            run.forget(specialist_files(grouping.partition))
    run.forget([name for name in run.manifest.files if name.startswith(STAGE_LOGITS)])
    run.update(complete=True)
    job.trackers.finish(tracked_figures(run), [run.path / name for name in (MANIFEST, *run.manifest.files)])
    job.progress.advance(1)


def _measure_costs(job: Job, ensemble: SpecialistEnsemble) -> RunCosts:
    images = job.splits.test.samples
    images = images.take(torch.arange(min(TIMED_IMAGES, len(images))))
    form = job.splits.preprocessing
    base_ms = _milliseconds(lambda: compute_logits(job.fabric, ensemble.base, images, form)) / len(images)
    ensemble_ms = _milliseconds(lambda: ensemble.decide(images)) / len(images)
    return RunCosts(
        base_seconds=job.run.manifest.seconds[BASE_FILE],
        specialist_seconds=specialist_seconds(job.run.manifest),
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


def trunk_record(base: Base, example: Tensor) -> TrunkRecord | None:
    """Where specialists go on from the base, and what that costs; None where they are whole networks."""
    cut = base.part.cut
    if cut is None:
        return None
    tail = tail_of(base.network.eval(), cut, example)
    tail_flops = inference_flops(tail, trunk_features(base.network, cut, example[:1]))
    return TrunkRecord(cut=cut, pass_cost=tail_flops / inference_flops(base.network, example[:1]))


def _data_record(splits: Splits) -> DataRecord:
    return DataRecord(about=splits.about, classes=splits.labels.names, input=splits.preprocessing)
