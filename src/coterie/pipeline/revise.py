"""A finished run, changed in part -> a new run: one specialist trained again, or one class more.

What is not trained is copied, bit for bit; the run that was there is left as it is.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from coterie.backbones import Head
from coterie.backbones.adapters import weights_of
from coterie.backbones.base import NetworkForm, refuse_untrusted
from coterie.backbones.libraries import is_function, with_classes
from coterie.backbones.parts import trained_part
from coterie.backbones.specialist import make_specialist
from coterie.config import PROBE, FitSettings
from coterie.data.additions import extended, read_additions
from coterie.data.splits import Splits
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ArtifactError, BackboneError, DataError, PartitionError
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.partition.embedding import LabelEmbedding
from coterie.pipeline.base import TrainedBase
from coterie.pipeline.choice import choose
from coterie.pipeline.finish import finish
from coterie.pipeline.job import Job, unless_complete
from coterie.pipeline.prepare import Prepared, load_splits, prepare
from coterie.pipeline.specialists import train_specialists
from coterie.progress import SILENT, Progress
from coterie.run.contents import HISTORY_FILE
from coterie.run.folder import FinishedRun, Run
from coterie.run.load import load_ensemble
from coterie.run.manifest import ChangeRecord
from coterie.run.names import BASE_FILE, HEAD_FILE, SPECIALISTS, specialist_files
from coterie.run.values import labels_of, partition_of, write_head, write_preprocessing
from coterie.training.passes import compute_logits

# Weight decay keeps the new row finite where its class is separated without error.
ROW_DECAY = 1e-4
ROW_STEPS = 200


def refit(
    path: Path | str,
    cluster: int,
    source: str,
    out: Path | str,
    *,
    further: bool = False,
    trust: str | None = None,
    progress: Progress = SILENT,
) -> SpecialistEnsemble:
    """Train one specialist again, on the run's samples of its classes and further ones; choose the gate again.

    Args:
        path: a finished run.
        cluster: whose specialist.
        source: further samples of the cluster's classes, see ``read_additions``.
        out: folder of the new run; an unfinished one goes on.
        further: start from the specialist's weights instead of the base's.
        trust: as for ``load_ensemble``.
        progress: progress callback.

    Raises:
        PartitionError: no such cluster, or one of one class.
        DataError: samples of classes that are not the cluster's.
        ArtifactError: the run is unfinished or damaged, or ``out`` holds something else or is being written to.
    """
    old = Run.open_complete(Path(path))
    partition, labels = partition_of(old.manifest), labels_of(old.manifest)
    if not 0 <= cluster < partition.n_clusters:
        raise PartitionError(f"no cluster {cluster}; allowed: 0 to {partition.n_clusters - 1}")
    classes = partition.classes(cluster)
    if len(classes) == 1:
        raise PartitionError(f"cluster {cluster} has one class, {labels.names[classes[0]]}, and so no specialist")
    change = ChangeRecord(kind="refit", source=source, cluster=cluster, run=str(path))
    run, file = begin(old, Path(out), change), specialist_files(partition)[cluster]

    def prepared() -> Prepared:
        refuse_untrusted(old.settings.backbone, trust)  # before the data is read, which may take minutes
        allowed, where = labels.of(classes.tolist()), f"cluster {cluster}"
        return _with_additions(old, source, labels, allowed=allowed, where=where, leave_others=False, trust=trust)

    def work(found: Prepared) -> SpecialistEnsemble:
        check_change(old, run, change)
        job = job_of(old, run, change, found, progress)
        _copy(old, run, [name for name in _network_files(old) if name != file])
        base = trained_base(job)
        starts = {}
        if further:
            specialist = make_specialist(base.network, base.head, classes)
            old.read_weights(file, specialist, base.network)
            starts[file] = weights_of(specialist)
        return complete(job, base, partition, starts)

    return unless_complete(run, prepared, work, lambda: load_ensemble(run.path, trust=trust))


def add_class(
    path: Path | str,
    name: str,
    source: str,
    out: Path | str,
    *,
    progress: Progress = SILENT,
) -> SpecialistEnsemble:
    """Give a run one class more: a row of the base's head, and a place in the nearest cluster (of each partition, where
    several lie side by side), whose specialist alone is trained again.

    The base's other logits stay what they were, so among the other classes its answers do too, up to the new class's
    mass.

    Args:
        path: a finished run.
        name: of the class.
        source: its images, see ``read_additions``; other classes in it are left out.
        out: folder of the new run; an unfinished one goes on.
        progress: progress callback.

    Raises:
        BackboneError: the base has no plain linear head, or cannot be built anew with one class more.
        DataError: the run has this class already, or the source has no images of it.
        ArtifactError: the run is unfinished or damaged, or ``out`` holds something else or is being written to.
    """
    old = Run.open_complete(Path(path))
    old_labels, old_partition = labels_of(old.manifest), partition_of(old.manifest)
    if name in old_labels.names:
        raise DataError(f"{path} has the class {name!r} already; `coterie refit` gives its cluster further samples")
    _refuse_narrow(old)
    labels = LabelSpace((*old_labels.names, name))
    change = ChangeRecord(kind="add-class", source=source, class_name=name, run=str(path))
    run = begin(old, Path(out), change)

    def prepared() -> Prepared:
        return _with_additions(old, source, labels, allowed=(name,), where=f"class {name!r}", leave_others=True)

    def work(found: Prepared) -> SpecialistEnsemble:
        check_change(old, run, change)
        job = job_of(old, run, change, found, progress)
        base = _wider_base(job, old)
        members = [old_partition.classes(k).tolist() for k in range(old_partition.n_clusters)]
        changed = {BASE_FILE, HEAD_FILE}
        for cluster in nearest_clusters(LabelEmbedding.from_head(base.head.of(base.network)), old_partition):
            members[cluster].append(len(labels) - 1)
            changed.add(specialist_files(old_partition)[cluster])
        _copy(old, run, [file for file in _network_files(old) if file not in changed])
        partition = Partition.from_members(members, len(labels), old_partition.layer_S)
        return complete(job, base, partition)

    return unless_complete(run, prepared, work, lambda: load_ensemble(run.path))


def nearest_clusters(embedding: LabelEmbedding, partition: Partition) -> list[int]:
    """The cluster of the first classes whose members are most alike, on average in cosine, to the last class; of
    several partitions side by side, one of each.
    """
    unit_CD = embedding.unit_CD()
    cosine_C = unit_CD[:-1] @ unit_CD[-1]
    alike_S = np.array([cosine_C[partition.classes(k)].mean() for k in range(partition.n_clusters)])
    return [int(cluster_L[alike_S[cluster_L].argmax()]) for cluster_L in partition.layers]


def fit_row(
    feature_ND: Tensor, logits_NC: Tensor, is_new_N: Tensor, start_D: Tensor, *, bias: bool = True
) -> tuple[Tensor, float]:
    """Weight row and bias of a new class, all other logits held: a logistic regression, since with the others fixed
    P(new) = sigmoid(w x + b - log sum exp(others)). Convex, so where it starts decides only how soon it ends. Without
    ``bias``, b is 0.
    """
    parameter_E = torch.cat([start_D, torch.zeros(1)]).requires_grad_()
    offset_N = torch.logsumexp(logits_NC, dim=1)
    optimizer = torch.optim.LBFGS([parameter_E], max_iter=ROW_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        score_N = feature_ND @ parameter_E[:-1] + bias * parameter_E[-1] - offset_N
        value = F.binary_cross_entropy_with_logits(score_N, is_new_N.float())
        value = value + ROW_DECAY * parameter_E[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    fitted_E = parameter_E.detach()
    return fitted_E[:-1], float(fitted_E[-1])


def _refuse_narrow(old: FinishedRun) -> None:
    """Raises BackboneError unless the base can be built with one class more, and ends in one linear layer."""
    name, head = old.settings.backbone, old.manifest.head
    if name.startswith("python:") or is_function(name):
        raise BackboneError(
            f"add-class cannot build {name} with one class more; allowed: bases that coterie builds by name"
        )
    if head.more or head.unit or f"{head.path}.weight" not in old.read_tensors(BASE_FILE):
        raise BackboneError(f"add-class needs a base that ends in one linear layer; this one's head is {head.path}")


def _wider_base(job: Job, old: FinishedRun) -> TrainedBase:
    """The old run's base with a row more, fitted, or as an earlier start left it."""
    base, head, run = job.prepared.base.network, old.manifest.head, job.run
    job.progress.stage("head row", 1)
    if run.has(BASE_FILE):
        _widen(base, head, torch.zeros(head.in_features), 0.0)
        run.read_weights(BASE_FILE, base)
    else:
        old.read_weights(BASE_FILE, base)
        _add_row(job.fabric, base, head, job.splits)
        run.write_weights(BASE_FILE, base, seconds={BASE_FILE: old.manifest.seconds[BASE_FILE]})
    job.progress.advance(1)
    wider = Head(head.path, head.in_features, head.out_features + 1)
    run.update(head=wider, network=_wider_form(old, job.splits.labels))
    return trained_base(job, wider)


def _wider_form(old: FinishedRun, labels: LabelSpace) -> NetworkForm | None:
    """A model of transformers is built by its configuration, which has to know of the new class."""
    form = old.manifest.network
    if form is None or form.transformers is None:
        return form
    # Its classes are in the data's order by now, whatever order they came in.
    return replace(form, transformers=with_classes(form.transformers, labels.names), reordered=False)


def _add_row(fabric: Fabric, base: nn.Module, head: Head, splits: Splits) -> None:
    """Widen the head, in place, by a row that starts as the mean direction of its features (Qi, Brown and Lowe 2018)
    and is then fitted, alone.
    """
    body = copy.deepcopy(base)
    body.set_submodule(head.path, nn.Identity())
    feature_ND = torch.from_numpy(compute_logits(fabric, body, splits.train.samples, splits.preprocessing))
    layer = copy.deepcopy(head.of(base)).cpu().float()
    is_new_N = splits.train.labels_N == head.out_features
    with torch.no_grad():
        logits_NC = layer(feature_ND)
        length = layer.weight.norm(dim=1).mean()
        start_D = length * F.normalize(feature_ND[is_new_N].mean(0) - feature_ND.mean(0), dim=0)
    _widen(base, head, *fit_row(feature_ND, logits_NC, is_new_N, start_D, bias=layer.bias is not None))


def _widen(base: nn.Module, head: Head, row_D: Tensor, bias: float) -> None:
    old = head.of(base)
    wide = nn.Linear(old.in_features, old.out_features + 1, bias=old.bias is not None, dtype=old.weight.dtype)
    with torch.no_grad():
        wide.weight.copy_(torch.cat([old.weight.cpu(), row_D[None]]))
        if old.bias is not None:
            wide.bias.copy_(torch.cat([old.bias.cpu(), torch.tensor([bias])]))
    base.set_submodule(head.path, wide.to(old.weight.device))


def begin(old: FinishedRun, out: Path, change: ChangeRecord, settings: FitSettings | None = None) -> Run:
    """The new run, of the old one's settings where none are given; it says from the start what it is.

    Raises:
        ArtifactError: ``out`` is the old run, or holds something else; or the old run has an added class, or probes.
    """
    if out.resolve() == old.path.resolve():
        raise ArtifactError(f"{out} is the run itself; choose another --out")
    if any(record.kind == "add-class" for record in old.manifest.changes):
        raise ArtifactError(
            f"{old.path} has a class that its data source lacks; give the source all classes and train anew"
        )
    if change.kind != "distil" and old.settings.specialist.trainable == PROBE:
        # What they are fitted to starts from a file or a hub that only the settings name.
        raise ArtifactError(f"the specialists of {old.path} are probes, which a fit with all samples makes anew")
    run = Run.create_or_resume(out, settings or old.settings)
    check_change(old, run, change)
    return run


def check_change(old: FinishedRun, run: Run, change: ChangeRecord) -> None:
    """Raises ArtifactError where the folder holds a run that was changed in another way."""
    if run.manifest.data is not None and run.manifest.changes != (*old.manifest.changes, change):
        raise ArtifactError(f"{run.path} holds another run; choose another --out")


def _with_additions(
    old: FinishedRun,
    source: str,
    labels: LabelSpace,
    *,
    allowed: tuple[str, ...],
    where: str,
    leave_others: bool,
    trust: str | None = None,
) -> Prepared:
    """The run's own base and data, with a source's samples of the classes that are allowed."""
    settings = old.settings
    splits = load_splits(settings, old)
    if splits.labels != labels_of(old.manifest):
        raise ArtifactError(f"the data of {settings.data.source} has changed since {old.path} was trained")
    found = read_additions(source, splits.preprocessing, settings.data, splits.columns)
    if settings.data.merge_names:
        found = {labels.meant(name): samples for name, samples in found.items()}
    others = sorted(set(found) - set(allowed))
    if others and not leave_others:
        raise DataError(
            f"{source} has classes that are not in {where}: {', '.join(others[:10])}; allowed: {', '.join(allowed)}"
        )
    kept = {name: samples for name, samples in found.items() if name in allowed}
    if not kept:
        raise DataError(f"{source} has no samples of {where}; its classes: {', '.join(sorted(found)[:10])}")
    prepared = prepare(settings, splits=splits, base_run=old.path, partition=partition_of(old.manifest), trust=trust)
    return replace(prepared, splits=extended(splits, labels, kept, settings.data))


def _network_files(run: Run) -> list[str]:
    return [name for name in run.manifest.files if name.startswith((BASE_FILE, HEAD_FILE, SPECIALISTS, HISTORY_FILE))]


def _copy(old: Run, run: Run, names: list[str]) -> None:
    """Files that the new run has not got yet, with the seconds that they took."""
    for name in names:
        if not run.has(name):
            seconds = {key: value for key, value in old.manifest.seconds.items() if key == name}
            run.write(name, old.read(name), seconds={**run.manifest.seconds, **seconds})


def job_of(old: FinishedRun, run: Run, change: ChangeRecord, prepared: Prepared, progress: Progress) -> Job:
    """What the stages need, after the new run has been told what it holds."""
    run.sweep()
    write_preprocessing(run, prepared.splits.preprocessing)
    run.update(
        changes=(*old.manifest.changes, change),
        data=prepared.data_record,
        train_counts=prepared.splits.train_counts,
        head=old.manifest.head,
        network=old.manifest.network,
        trunk=old.manifest.trunk,
    )
    return Job(prepared, run, progress)


def trained_base(job: Job, head: Head | None = None) -> TrainedBase:
    """The base in the run folder, with what its specialists train."""
    base = job.prepared.base
    head = base.head if head is None else head
    job.run.read_weights(BASE_FILE, base.network)
    network = base.network.to(job.fabric.device).eval()
    example = job.splits.preprocessing.example()
    part = trained_part(network, head, example, job.settings.specialist.trainable)
    validation_NC = job.logits(BASE_FILE, network, "validation", head.out_features, "base on validation")
    return TrainedBase(network, head, part, validation_NC)


def complete(
    job: Job, base: TrainedBase, partition: Partition, starts: dict[str, dict[str, Tensor]] | None = None
) -> SpecialistEnsemble:
    """The later stages, with a partition that is known."""
    write_head(job.run, base.head.of(base.network))
    trained = train_specialists(job, base, [partition], starts)
    return finish(job, base, choose(job, base, trained))
