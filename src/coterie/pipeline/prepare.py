"""Everything that is decided, and refused, before a run: its data, its base, its numbers of clusters."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from coterie.backbones import replace_head
from coterie.backbones.base import Base, NetworkForm, make_base, preprocessing_of_base, rebuild_base
from coterie.backbones.class_order import CLEARLY
from coterie.backbones.cut import tail_of, trunk_features
from coterie.backbones.flops import inference_flops
from coterie.backbones.parts import trained_part
from coterie.config import PROBE, DataSettings, FitSettings, PartitionSettings, TrainingSettings
from coterie.data import load as load_data
from coterie.data import read_groups
from coterie.data.batches import Batches, augmentation_of, training_batches
from coterie.data.splits import Split, Splits
from coterie.errors import ArtifactError, SettingsError
from coterie.inputs.image import prescribed_image
from coterie.label_file import read_column
from coterie.labels import LabelSpace
from coterie.partition import Partition, PartitionRequest, check_n_clusters, check_overlap
from coterie.pipeline.defaults import with_backbone
from coterie.pipeline.embedding import check_embedding
from coterie.pipeline.recipe import with_recipe
from coterie.pipeline.timing import epoch_seconds
from coterie.run.caution import caution_on
from coterie.run.folder import Run
from coterie.run.manifest import DataRecord, TrunkRecord
from coterie.run.names import BASE_FILE
from coterie.run.values import base_bytes, labels_of, preprocessing_of
from coterie.system.load import n_cores
from coterie.system.units import how_many
from coterie.training.fabric import make_fabric
from coterie.training.linear_probe import check_probed
from coterie.training.passes import compute_logits
from coterie.training.process import configure_process
from coterie.training.trunk import views_kept
from coterie.vocabulary import GROUPS_COLUMN

# Report, examples, figures, manifest and logs.
OTHER_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a run begins with; whatever could be refused has been.

    ``base``: its weights are not trained yet, and where there is a ``base_run``, not read yet. ``groups``: the given
    group of each class, or None. ``n_clusters``: the numbers of clusters to try. ``trunk``: None where specialists are
    whole networks. ``fabric``: device and precision. ``base_threads``: CPU threads that the
    base's training begins with, where they may change; None: this process's. ``chosen``: the recipe's plain values.
    """

    settings: FitSettings
    splits: Splits
    base: Base
    groups: tuple[str, ...] | None
    n_clusters: tuple[int, ...]
    trunk: TrunkRecord | None
    fabric: Fabric
    base_run: Run | None = None
    base_threads: int | None = None
    chosen: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found rather than asked for: where weights and preprocessing come from."""
        form = prescribed_image(self.splits.preprocessing)
        pixels = () if form is None else (f"images: {form.described}",)
        found = (
            self.chosen,
            self.base.form.origin,
            caution_on(self.data_record, "validation", "test"),
            _too_many_threads(self.settings.hardware.threads),
        )
        return (*filter(None, found), *pixels)

    @property
    def data_record(self) -> DataRecord:
        """What the run folder says of the data."""
        splits = self.splits
        source = None if self.base_run is None else self.base_run.manifest.data
        # Before it was trained here, or in the run that it is taken of.
        knows_classes = self.base.knows_classes if source is None else bool(source.perhaps_seen)
        return DataRecord(
            about=splits.about,
            classes=splits.labels.names,
            input=splits.preprocessing,
            n_unknown=splits.n_unknown,
            sizes=(len(splits.train), len(splits.validation), len(splits.test)),
            encoding=splits.encoding,
            perhaps_seen=splits.cut if knows_classes else (),
            n_in_validation=splits.n_in_validation if source is None else source.n_in_validation,
            columns=splits.columns,
        )


def prepare(
    settings: FitSettings,
    *,
    splits: Splits | None = None,
    base: nn.Module | None = None,
    base_run: Path | str | None = None,
    partition: Partition | None = None,
    trust: str | None = None,
) -> Prepared:
    """Read the data, build the base and probe it, and check all that could go wrong later.

    Args:
        settings: of the run.
        splits: data to use instead of ``settings.data.source``.
        base: a trained network, as for ``fit``.
        base_run: the run whose trained base is taken, as for ``fit``.
        partition: the partition, where it is known: given groups and label embeddings are not read then.
        trust: as for ``load_ensemble``, of the ``base_run``.

    Raises:
        CoterieError: whatever would stop the run as soon as it starts.
    """
    # In the order of what it costs to find out: a wrong number of clusters is told before a network is probed.
    source = None if base_run is None else Run.open(Path(base_run))
    settings = with_backbone(settings, splits=splits)[0] if base is None else settings
    splits = load_splits(settings, source, trained=base is not None) if splits is None else splits
    groups = None if partition else read_given_groups(settings.data, settings.partition.groups, splits.labels)
    if partition is None and "clusters" in settings.partition.given():
        _numbers_of_clusters(settings, groups, splits.labels)
    found = _make_base(settings, splits, base, source, trust)
    configure_process(settings.hardware)
    fabric = make_fabric(settings.hardware, splits.preprocessing)
    settings, chosen = with_recipe(settings, found, splits, lambda: epoch_seconds(settings, splits, found, fabric))
    n_clusters = (partition.n_clusters,) if partition else _numbers_of_clusters(settings, groups, splits.labels)
    if partition is None:
        check_embedding(settings.partition.embedding, found, splits)
    example = splits.preprocessing.example()
    found = replace(found, part=trained_part(found.network, found.head, example, settings.specialist.trainable))
    if settings.specialist.trainable == PROBE:
        check_probed(found.network, found.head)
    if found.trained and source is None and settings.names is None and found.form.transformers is None:
        found = _in_folder_order(found, splits, fabric)
    trunk = _trunk_record(found, example)
    prepared = Prepared(settings, splits, found, groups, n_clusters, trunk, fabric, source, chosen=chosen)
    refuse_views(prepared)
    return prepared


def _too_many_threads(threads: int | None) -> str:
    """What to say where more threads are asked for than there are cores, as by another machine's job script."""
    variable = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    asked = threads or (int(variable) if variable.isdecimal() else 0)
    if asked <= n_cores():
        return ""
    name = "--hardware.threads" if threads else "OMP_NUM_THREADS"
    used = how_many(torch.get_num_threads(), "thread is", "threads are")
    return f"{name} is {asked}, and this machine has {how_many(n_cores(), 'core')}: {used} used"


def _numbers_of_clusters(settings: FitSettings, groups: tuple[str, ...] | None, labels: LabelSpace) -> tuple[int, ...]:
    # Given groups say how many clusters there are, whatever number was asked for.
    numbers = settings.partition.clusters if groups is None else (len(set(groups)),)
    for number in numbers:
        check_n_clusters(number, len(labels))
        check_overlap(settings.partition.overlap, number)
        partition_request(settings.partition, number, settings.seed)
    return numbers


def load_splits(settings: FitSettings, base_run: Run | None = None, *, trained: bool = False) -> Splits:
    """The data of a run, as its base takes it.

    Args:
        settings: of the run.
        base_run: the run whose base is taken.
        trained: whether the base is passed from Python, with its weights.

    Raises:
        DataError: as ``coterie.data.load``.
        BackboneError: as ``preprocessing_of_base``.
        ArtifactError: the run whose base is taken does not say yet what that takes.
    """
    preprocessing = preprocessing_of_base(settings) if base_run is None else preprocessing_of(base_run)
    data = settings.data
    if data.standardize is None and base_run is None:
        # A network that came trained gets the features that it was trained on.
        data = data.model_copy(update={"standardize": settings.weights is None and not trained})
    return load_data(data, settings.seed, preprocessing)


def base_of_run(run: Run, trust: str | None = None) -> tuple[Splits, Base]:
    """The data of a run and its trained base, finished or not. The folder is left as it is: a `coterie fit` may be at
    work in it.

    Args:
        run: whose base is trained.
        trust: as for ``load_ensemble``.

    Raises:
        ArtifactError: its data has changed, or its base can only be built by code that nobody said to trust.
        CoterieError: as ``fit``, of its data and base.
    """
    splits = load_splits(run.settings, run)
    if splits.labels != labels_of(run.manifest):
        raise ArtifactError(f"the data of {run.settings.data.source} has changed since {run.path} was begun")
    base = prepare(run.settings, splits=splits, base_run=run.path, trust=trust).base
    run.read_weights(BASE_FILE, base.network)
    return splits, base


def read_given_groups(data: DataSettings, place: str | None, labels: LabelSpace) -> tuple[str, ...] | None:
    """The given group of each class, from a column of the data or a file; None where none are given.

    Raises:
        DataError: they cannot be read, or are not one for each class.
    """
    if place is None:
        return None
    if place.startswith(GROUPS_COLUMN):
        return read_groups(data, place.removeprefix(GROUPS_COLUMN), labels)
    return read_column(place, len(labels), "groups")


def partition_request(partition: PartitionSettings, n_clusters: int, seed: int) -> PartitionRequest:
    """The settings of one partition.

    Raises:
        PartitionError: they contradict each other.
    """
    return PartitionRequest(partition.method, n_clusters, partition.max_size, seed)


def training_batches_of(prepared: Prepared, split: Split, training: TrainingSettings, seed: int) -> Batches:
    """Training batches of a split, drawn and augmented as the settings say."""
    settings = prepared.settings
    return training_batches(
        split,
        prepared.splits.preprocessing,
        augmentation_of(settings.data, prepared.splits),
        batch_size=training.batch_size,
        seed=seed,
        workers=settings.data.workers,
        balanced=settings.data.sampling == "balanced",
    )


def views_bytes(prepared: Prepared, network: nn.Module, n_samples: int) -> tuple[int, int]:
    """Bytes of the trunk's outputs that a specialist's training holds at most for so many samples, and of how many
    views they are; the others are computed again in each epoch that they are drawn for.

    Args:
        prepared: of the run.
        network: the base, trained or not.
        n_samples: of the cluster.

    Raises:
        SettingsError: one view takes more than data may in memory.
    """
    settings, trunk = prepared.settings, prepared.trunk
    views = settings.specialist.kept_views
    if trunk is None or not views:
        return 0, 0
    with prepared.fabric.autocast():
        example = prepared.splits.preprocessing.example()[:1]
        view_bytes = n_samples * trunk_features(network, trunk.cut, example).nbytes
    limit = settings.data.memory_gib * 2**30
    if view_bytes > limit:
        raise SettingsError(
            f"specialist.views = {settings.specialist.views}: the output of {trunk.cut} for a cluster of {n_samples} "
            f"samples takes {view_bytes / 2**30:.2g} GiB a view, and --data.memory-gib is "
            f"{settings.data.memory_gib:g}; allowed: more memory, or 0 views (computed anew in each epoch)"
        )
    kept = views_kept(views, view_bytes, limit)
    return (views if kept == views else kept + 1) * view_bytes, kept


def refuse_views(prepared: Prepared) -> None:
    """Refuse views that cannot fit, before the clusters are known: by the least that the largest of them can be.

    Raises:
        SettingsError: as ``views_bytes``.
    """
    settings, train = prepared.settings, prepared.splits.train
    least = int(torch.bincount(train.labels_N).max())
    if settings.partition.max_size is None:  # which may make more clusters than are asked for
        least = max(least, math.ceil(len(train) / min(prepared.n_clusters)))
    views_bytes(prepared, prepared.base.network, least)


def disk_bound(prepared: Prepared) -> int:
    """Bytes that a run takes on disk at most: weights; the state of one training, twice while it is replaced; logits,
    twice while they are put together; and the rest.
    """
    settings, splits, numbers = prepared.settings, prepared.splits, prepared.n_clusters
    weights = sum(value.numel() * value.element_size() for value in prepared.base.network.state_dict().values())
    trainings = (settings.base, settings.specialist)
    # The weights of a training's best epoch, or their average.
    more = int(settings.specialist.patience is not None or any(training.average_decay for training in trainings))
    moments = max(2 if training.optimizer == "adamw" else 1 for training in trainings)
    logits = 4 * (len(splits.validation) + len(splits.test)) * len(splits.labels) * (1 + len(numbers))
    logits = round(logits * (1 + settings.partition.overlap))
    return weights * (1 + sum(numbers) + 2 * (1 + moments + more)) + 2 * logits + OTHER_BYTES


def _make_base(
    settings: FitSettings, splits: Splits, given: nn.Module | None, source: Run | None, trust: str | None
) -> Base:
    """The base as it stands before the run; that of another run has the right layers and not yet its weights."""
    if source is None:
        return make_base(settings, splits.labels, splits.preprocessing, given)
    manifest = source.manifest
    if manifest.head is None:
        raise ArtifactError(f"{source.path} has no trained base yet")
    if manifest.data is not None and manifest.data.classes != splits.labels.names:
        raise ArtifactError(f"the base of {source.path} has other classes than {settings.data.source}")
    network, head = rebuild_base(
        settings,
        manifest.network,
        manifest.head,
        len(splits.labels),
        splits.preprocessing,
        given,
        trust,
        base_bytes(source),
    )
    return Base(network, head, False, manifest.network or NetworkForm())


def _in_folder_order(base: Base, splits: Splits, fabric: Fabric) -> Base:
    """A base for classes that are numbers, which counts them (0, 1, 2, ...), or as torchvision's ImageFolder sorts the
    names of their folders (0, 1, 10, 11, 2, ...): as fits the validation samples clearly better.
    """
    names = splits.labels.names
    if sorted(names) != sorted(map(str, range(len(names)))):
        return base
    # The outputs stand in the order of the data's classes by now, as if they counted them.
    order = [names.index(str(sorted(names).index(name))) for name in names]
    if order == list(range(len(names))):
        return base
    logits_NC = compute_logits(fabric, base.network, splits.validation.samples, splits.preprocessing)
    label_N = splits.validation.labels_N.numpy()
    plain, sorted_ = (float((each.argmax(1) == label_N).mean()) for each in (logits_NC, logits_NC[:, order]))
    if sorted_ <= plain + CLEARLY:
        return base
    replace_head(base.network, base.head, torch.tensor(order))
    said = f"outputs in the order of sorted names (0, 1, 10, ...): {sorted_:.1%} right; counted, {plain:.1%}"
    origin = "; ".join(filter(None, (base.form.origin, said)))
    return replace(base, form=replace(base.form, reordered=True, origin=origin))


def _trunk_record(base: Base, example: Tensor) -> TrunkRecord | None:
    """Where specialists go on from the base, and what that costs; None where they are whole networks."""
    cut = base.part.cut
    if cut is None:
        return None
    tail = tail_of(base.network.eval(), cut, example)
    tail_flops = inference_flops(tail, trunk_features(base.network, cut, example[:1]))
    return TrunkRecord(cut=cut, pass_cost=tail_flops / inference_flops(base.network, example[:1]))
