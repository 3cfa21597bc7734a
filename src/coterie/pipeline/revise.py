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
from coterie.backbones.base import NetworkForm
from coterie.backbones.libraries import is_function, with_classes
from coterie.backbones.parts import TrainedPart, trained_part
from coterie.backbones.specialist import make_specialist
from coterie.config import FitSettings
from coterie.data import load as load_data
from coterie.data.additions import extended, read_additions
from coterie.data.splits import Splits
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ArtifactError, BackboneError, DataError, PartitionError
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.partition.embedding import LabelEmbedding
from coterie.pipeline.fit import Job, complete
from coterie.progress import SILENT, Progress
from coterie.run.folder import Run
from coterie.run.load import load_ensemble
from coterie.run.manifest import ChangeRecord, DataRecord
from coterie.run.names import BASE_FILE, HEAD_FILE, SPECIALISTS, specialist_files, specialist_titles
from coterie.run.values import labels_of, partition_of, preprocessing_of, write_head, write_preprocessing
from coterie.system.lock import hold, refuse_if_held
from coterie.training.fabric import configure_process, make_fabric
from coterie.training.loop import early_stopping
from coterie.training.passes import compute_logits

# Keeps the new row finite where its class is told apart without error.
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
        progress: who is told.

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
    run = _begin(old, Path(out), change)
    if run.manifest.complete:
        return load_ensemble(run.path)
    refuse_if_held(run.path)
    allowed = labels.of(classes.tolist())
    splits = _with_additions(old, source, labels, allowed=allowed, where=f"cluster {cluster}")
    file = specialist_files(partition)[cluster]
    ensemble, head = load_ensemble(path, trust=trust), _head(old)
    specialist = make_specialist(ensemble.base, head, classes)
    if further:
        old.read_weights(file, specialist, ensemble.base)
    with hold(run.path):
        run = _begin(old, run.path, change)  # another process may have written since
        if run.manifest.complete:
            return load_ensemble(run.path)
        job = _job(old, run, change, splits, progress)
        part = _part(job, ensemble.base, head)
        _copy(old, run, [name for name in _network_files(old) if name != file])
        job.train_stage(
            specialist_titles(partition)[cluster],
            file,
            specialist,
            job.splits.train.of_classes(classes),
            job.settings.specialist,
            job.settings.seed + 1 + cluster,
            part,
            beyond=ensemble.base,
            further=further,
            stopping=early_stopping(
                job.fabric,
                specialist,
                classes,
                job.settings.specialist,
                job.splits.validation,
                job.splits.preprocessing,
            ),
        )
        return _complete(job, ensemble.base, head, part, partition)


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
        progress: who is told.

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
    run = _begin(old, Path(out), change)
    if run.manifest.complete:
        return load_ensemble(run.path)
    refuse_if_held(run.path)
    splits = _with_additions(old, source, labels, allowed=(name,), where=f"class {name!r}", leave_others=True)
    with hold(run.path):
        run = _begin(old, run.path, change)  # another process may have written since
        if run.manifest.complete:
            return load_ensemble(run.path)
        job = _job(old, run, change, splits, progress)
        base, head = _wider_base(job, old)
        members = [old_partition.classes(k).tolist() for k in range(old_partition.n_clusters)]
        changed = {BASE_FILE, HEAD_FILE}
        for cluster in nearest_clusters(LabelEmbedding.from_head(head.of(base)), old_partition):
            members[cluster].append(len(labels) - 1)
            changed.add(specialist_files(old_partition)[cluster])
        _copy(old, run, [file for file in _network_files(old) if file not in changed])
        partition = Partition.from_members(members, len(labels), old_partition.layer_S)
        return _complete(job, base, head, _part(job, base, head), partition)


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


def _refuse_narrow(old: Run) -> None:
    """Raises BackboneError unless the base can be built with one class more, and ends in one linear layer."""
    settings, head = FitSettings.from_values(old.manifest.settings), _head(old)
    name = settings.backbone
    if name.startswith("python:") or is_function(name):
        raise BackboneError(
            f"add-class cannot build {name} with one class more; allowed: bases that coterie builds by name"
        )
    if head.more or head.unit or f"{head.path}.weight" not in old.read_tensors(BASE_FILE):
        raise BackboneError(f"add-class needs a base that ends in one linear layer; this one's head is {head.path}")


def _wider_base(job: Job, old: Run) -> tuple[nn.Module, Head]:
    """The old run's base with a row more, fitted, or as an earlier start left it."""
    base, head, run = load_ensemble(old.path).base, _head(old), job.run
    job.progress.stage("head row", 1)
    if run.has(BASE_FILE):
        _widen(base, head, torch.zeros(head.in_features), 0.0)
        run.read_weights(BASE_FILE, base)
    else:
        _add_row(job.fabric, base, head, job.splits)
        run.write_weights(BASE_FILE, base, seconds={BASE_FILE: old.manifest.seconds[BASE_FILE]})
    job.progress.advance(1)
    wider = Head(head.path, head.in_features, head.out_features + 1)
    run.update(head=wider, network=_wider_record(old, job.splits.labels))
    return base, wider


def _wider_record(old: Run, labels: LabelSpace) -> NetworkForm | None:
    """A model of transformers is built by its configuration, which has to know of the new class."""
    record = old.manifest.network
    if record is None or record.transformers is None:
        return record
    # Its classes are in the data's order by now, whatever order they came in.
    config = with_classes(record.transformers, labels.names)
    return replace(record, transformers=config, reordered=False)


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


def _begin(old: Run, out: Path, change: ChangeRecord) -> Run:
    """The new run, which says from the start what it is."""
    changes = (*old.manifest.changes, change)
    if out.resolve() == old.path.resolve():
        raise ArtifactError(f"{out} is the run itself; choose another --out")
    if any(record.kind == "add-class" for record in old.manifest.changes):
        raise ArtifactError(
            f"{old.path} has a class that its data source lacks; give the source all classes and train anew"
        )
    run = Run.create_or_resume(out, FitSettings.from_values(old.manifest.settings))
    if run.manifest.files and run.manifest.changes != changes:
        raise ArtifactError(f"{out} holds another run; choose another --out")
    return run


def _with_additions(
    old: Run, source: str, labels: LabelSpace, *, allowed: tuple[str, ...], where: str, leave_others: bool = False
) -> Splits:
    """The run's own data, with a source's samples of the classes that are allowed."""
    settings = FitSettings.from_values(old.manifest.settings)
    splits = load_data(settings.data, settings.seed, preprocessing_of(old))
    if splits.labels != labels_of(old.manifest):
        raise ArtifactError(f"the data of {settings.data.source} has changed since {old.path} was trained")
    found = read_additions(source, splits.preprocessing, settings.data)
    others = sorted(set(found) - set(allowed))
    if others and not leave_others:
        raise DataError(
            f"{source} has classes that are not in {where}: {', '.join(others[:10])}; allowed: {', '.join(allowed)}"
        )
    kept = {name: samples for name, samples in found.items() if name in allowed}
    if not kept:
        raise DataError(f"{source} has no samples of {where}; its classes: {', '.join(sorted(found)[:10])}")
    return extended(splits, labels, kept, settings.data)


def _head(run: Run) -> Head:
    assert run.manifest.head is not None  # it is complete
    return run.manifest.head


def _network_files(run: Run) -> list[str]:
    return [name for name in run.manifest.files if name.startswith((BASE_FILE, HEAD_FILE, SPECIALISTS, "history.json"))]


def _copy(old: Run, run: Run, names: list[str]) -> None:
    """Files that the new run has not got yet, with the seconds that they took."""
    for name in names:
        if not run.has(name):
            seconds = {key: value for key, value in old.manifest.seconds.items() if key == name}
            run.write(name, old.read(name), seconds={**run.manifest.seconds, **seconds})


def _part(job: Job, base: nn.Module, head: Head) -> TrainedPart:
    return trained_part(base, head, job.splits.preprocessing.example(), job.settings.specialist.trainable)


def _complete(job: Job, base: nn.Module, head: Head, part: TrainedPart, partition: Partition) -> SpecialistEnsemble:
    write_head(job.run, head.of(base))
    return complete(job, base, head, part, [partition])


def _job(old: Run, run: Run, change: ChangeRecord, splits: Splits, progress: Progress) -> Job:
    """What the stages need, after the new run has been told what it holds."""
    settings = FitSettings.from_values(old.manifest.settings)
    data = DataRecord(about=splits.about, classes=splits.labels.names, input=splits.preprocessing)
    run.sweep()
    write_preprocessing(run, splits.preprocessing)
    run.update(
        changes=(*old.manifest.changes, change),
        data=data,
        train_counts=splits.train_counts,
        head=old.manifest.head,
        network=old.manifest.network,
        trunk=old.manifest.trunk,
    )
    configure_process(settings.hardware)
    return Job(settings, splits, make_fabric(settings.hardware), run, progress)
