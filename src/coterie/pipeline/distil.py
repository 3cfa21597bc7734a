"""A finished run's ensemble, taught back into one network of its base's form -> a new run without specialists."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from coterie.arrays import BoolArray
from coterie.backbones.base import refuse_untrusted
from coterie.config import FitSettings, GateSettings, PartitionSettings, TrainingSettings
from coterie.data import find_new
from coterie.data.additions import JoinedSamples
from coterie.data.new import nothing_left
from coterie.data.splits import Split, Splits, sample_columns
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ArtifactError, PartitionError, SettingsError
from coterie.inputs import Samples
from coterie.measures.significance import Interval, gain_interval
from coterie.partition import Partition
from coterie.pipeline.job import Job, unless_complete
from coterie.pipeline.prepare import Prepared, load_splits, prepare
from coterie.pipeline.revise import begin, check_change, complete, job_of, trained_base
from coterie.pipeline.tuning import ALONE
from coterie.progress import SILENT, Progress
from coterie.routing.evaluation import Routing
from coterie.run.contents import read_values
from coterie.run.folder import FinishedRun, Run
from coterie.run.load import load_ensemble
from coterie.run.manifest import MANIFEST, ChangeRecord
from coterie.run.names import BASE_FILE
from coterie.run.values import base_bytes, labels_of, partition_of, pass_cost_of, weight_bytes
from coterie.training.distilling import Teacher

# Hinton, Vinyals and Dean 2015 mix soft targets of a temperature of 2 and more with a little of the labels. Where the
# base does not know its training samples yet, labels teach more than an ensemble that errs: with 0.9 the network was
# behind the base trained on by them, with 0.5 ahead (docs/what-helps.md, "One network again").
WEIGHT = 0.5
TEMPERATURE = 2.0
FIGURES_FILE = "distil.json"
STUDENT, ENSEMBLE, BASE = "distilled", "ensemble", "base"
# Controls, by the file that holds their weights until they are judged.
TRAINED_ON = "trained-on.safetensors"
FROM_ALL_CLASSES = "from-all-classes.safetensors"
NAMES = {TRAINED_ON: "base trained on", FROM_ALL_CLASSES: "base, from the all-class copy"}


@dataclass(frozen=True)
class DistilledRow:
    """One classifier on the test samples: accuracy, gain over the base, the distilled network's lead over it, both with
    95 % intervals, shares of 1; forward passes a sample, and the weights that it keeps, in those of the base.
    """

    name: str
    accuracy: float
    gain: Interval
    lead: Interval
    passes: float
    storage: float


_ROWS: TypeAdapter[tuple[DistilledRow, ...]] = TypeAdapter(tuple[DistilledRow, ...])


def distil(
    path: Path | str,
    out: Path | str,
    *,
    epochs: int | None = None,
    learning_rate: float | None = None,
    weight: float = WEIGHT,
    controls: bool = True,
    unlabelled: Sequence[str] = (),
    splits: Splits | None = None,
    base: nn.Module | None = None,
    trust: str | None = None,
    progress: Progress = SILENT,
) -> SpecialistEnsemble:
    """Teach a run's ensemble back into one network, which starts from the base's weights and learns the ensemble's
    probabilities of the training samples, as they are augmented, beside their labels, and of ``unlabelled`` ones.

    The new run has no specialists: each class is a cluster, and nothing is routed. It is trained as the specialists
    were, and ``distilled_rows`` reads how it did on the test samples.

    Args:
        path: a finished run.
        out: folder of the new run; an unfinished one goes on.
        epochs: of the training; None: the base's.
        learning_rate: at its highest; None: the specialists', which start from the base's weights too.
        weight: of the ensemble's answers, from 0 to 1; the labels have the rest.
        controls: also train the base on for as long by the labels alone, and by the all-class copy that ``coterie
            compare`` trains, where the run has one. Their weights are not kept.
        unlabelled: further samples to learn the ensemble's answers of: files, folders and patterns, as ``coterie
            predict`` takes them. Where a training sample has its label, such a sample has the class that the ensemble
            gives it.
        splits: data to use instead of the run's source.
        base: as for ``load_ensemble``.
        trust: as for ``load_ensemble``.
        progress: progress callback.

    Raises:
        SettingsError: no such number of epochs, learning rate or weight.
        PartitionError: the run has no specialists, or routes nothing to them.
        DataError: the run's data is not there any more, or unlabelled samples cannot be read.
        ArtifactError: the run is unfinished or damaged, its base can only be built by code that nobody said to trust,
            or ``out`` holds something else or is being written to.
    """
    old = Run.open_complete(Path(path))
    if not 0 <= weight <= 1:
        raise SettingsError(f"weight = {weight}: must be from 0 (the labels alone) to 1 (the ensemble's answers alone)")
    _refuse_alone(old)
    settings = _settings(old, epochs, learning_rate)
    change = ChangeRecord(
        kind="distil", run=str(path), source=settings.data.source, weight=weight, unlabelled=tuple(unlabelled)
    )
    run = begin(old, Path(out), change, settings)

    def prepared() -> Prepared:
        if base is None:
            refuse_untrusted(settings.backbone, trust)  # before the data is read, which may take minutes
        found = load_splits(settings, old) if splits is None else splits
        if found.labels != labels_of(old.manifest):
            raise ArtifactError(f"the data of {settings.data.source} has changed since {old.path} was trained")
        return prepare(settings, splits=found, base=base, base_run=old.path, trust=trust)

    def work(found: Prepared) -> SpecialistEnsemble:
        check_change(old, run, change)
        job, more = job_of(old, run, change, found, progress), _read_more(change.unlabelled, found)
        return _Distillation(old, job, weight, more, base, trust).work(controls)

    return unless_complete(run, prepared, work, lambda: load_ensemble(run.path, base=base, trust=trust))


def distilled_rows(path: Path | str) -> tuple[DistilledRow, ...]:
    """The distilled network of a run and what it is compared with, on the test samples.

    Raises:
        ArtifactError: the run was not made by ``distil``, or is damaged.
    """
    return read_values(Run.open_complete(Path(path)), FIGURES_FILE, _ROWS)


@dataclass(frozen=True, eq=False)
class _Distillation:
    """The work on a new run. ``more``: samples without labels."""

    old: FinishedRun
    job: Job
    weight: float
    more: Samples | None
    base: nn.Module | None
    trust: str | None

    def work(self, controls: bool) -> SpecialistEnsemble:
        run, n_classes = self.job.run, len(self.job.splits.labels)
        run.update(trunk=None)  # there are no specialists to take its output
        ensemble = self._load(self.old.path)
        self._train("base", BASE_FILE, ensemble)
        if not run.has(FIGURES_FILE):
            trained = dict(self._controls() if controls else ())
            run.write_json(FIGURES_FILE, [asdict(row) for row in self._rows(ensemble, trained)])
        run.forget([file for file in NAMES if file in run.manifest.files])
        return complete(self.job, trained_base(self.job), Partition.from_assignment(range(n_classes)))

    def _load(self, path: Path) -> SpecialistEnsemble:
        return load_ensemble(path, self.job.settings.hardware, base=self.base, trust=self.trust)

    def _train(self, title: str, file: str, teacher: SpecialistEnsemble | None) -> nn.Module:
        """Train a copy of the old base, or read what an earlier start trained."""
        settings, network = self.job.settings, copy.deepcopy(self.job.prepared.base.network)
        self.old.read_weights(BASE_FILE, network)
        taught = None if teacher is None else Teacher(teacher, self.weight, TEMPERATURE)
        # The seed of other batches than those that the base has learned from.
        return self._job(teacher).train_network(title, file, network, settings.base, settings.seed + 1, teacher=taught)

    def _job(self, teacher: SpecialistEnsemble | None) -> Job:
        """With the samples that have no label too; of the labels alone, as many in which some come twice."""
        train = self.job.splits.train
        if self.more is None:
            return self.job
        if teacher is None:
            rows = torch.linspace(0, len(train) - 1, len(train) + len(self.more)).round().long()
            train = Split(train.samples.take(rows), train.labels_N[rows])
        else:
            label_N = torch.from_numpy(teacher.predict_proba(self.more).argmax(axis=1))
            train = Split(JoinedSamples(train.samples, self.more), torch.cat([train.labels_N, label_N]))
        return replace(self.job, prepared=replace(self.job.prepared, splits=replace(self.job.splits, train=train)))

    def _controls(self) -> Iterator[tuple[str, BoolArray]]:
        """Of each control, its file, and whether it is right."""
        yield TRAINED_ON, self._right(TRAINED_ON, self._train(NAMES[TRAINED_ON], TRAINED_ON, None))
        place = self.old.path / "controls" / "all-classes"
        if place.is_symlink() or not (place / MANIFEST).exists() or not Run.open(place).complete:
            self.job.progress.note(
                f"no control from an all-class copy: {place} is missing, which `coterie compare {self.old.path}` trains"
            )
            return
        network = self._train(NAMES[FROM_ALL_CLASSES], FROM_ALL_CLASSES, self._load(place))
        yield FROM_ALL_CLASSES, self._right(FROM_ALL_CLASSES, network)

    def _right(self, file: str, network: nn.Module) -> BoolArray:
        """Whether a network is right, of each test sample."""
        logits_NC = self.job.logits(file, network, "test", len(self.job.splits.labels), "distilled networks on test")
        right_N: BoolArray = logits_NC.argmax(axis=1) == self.job.splits.test.labels_N.numpy()
        return right_N

    def _rows(self, ensemble: SpecialistEnsemble, controls: dict[str, BoolArray]) -> list[DistilledRow]:
        test, manifest = self.job.splits.test, self.old.manifest
        self.job.progress.stage("ensemble on test", ensemble.panel.n_steps(test.samples))
        outputs = ensemble.outputs(test.samples, test.labels_N.numpy(), self.job.progress)
        outputs = replace(outputs, pass_cost=pass_cost_of(manifest))
        routing = Routing.of(outputs, ensemble.partition, ensemble.rule)
        base_N, ensemble_N = (answer_N == outputs.label_N for answer_N in routing.answers())
        student_N = self._right(BASE_FILE, trained_base(self.job).network)
        storage = weight_bytes(manifest) / base_bytes(self.old)

        def row(name: str, right_N: BoolArray, passes: float = 1.0, storage: float = 1.0) -> DistilledRow:
            gain, lead = gain_interval(base_N, right_N), gain_interval(right_N, student_N)
            return DistilledRow(name, float(right_N.mean()), gain, lead, passes, storage)

        return [
            row(STUDENT, student_N),
            row(ENSEMBLE, ensemble_N, routing.mean_passes(), storage),
            row(BASE, base_N),
            *(row(NAMES[file], right_N) for file, right_N in controls.items()),
        ]


def _read_more(arguments: Sequence[str], found: Prepared) -> Samples | None:
    """All samples that arguments name."""
    if not arguments:
        return None
    form, data = found.splits.preprocessing, found.settings.data
    columns = sample_columns(data, form, found.splits.columns)
    new = find_new(form, arguments, columns=columns, written=(data.separator, data.encoding or found.splits.encoding))
    read = next(new.batches(sys.maxsize), None)
    if read is None:
        raise nothing_left(form)
    return read.samples


def _refuse_alone(old: FinishedRun) -> None:
    """Raises PartitionError where the base answers alone."""
    if bool((partition_of(old.manifest).size_S == 1).all()):
        raise PartitionError(f"{old.path} has no specialists: there is nothing to distil")
    if old.manifest.gate.threshold is None:
        raise PartitionError(f"{old.path} routes nothing to its specialists: there is nothing to distil")


def _settings(old: FinishedRun, epochs: int | None, learning_rate: float | None) -> FitSettings:
    """Of the new run, whose base is trained as specialists are: from the old base's weights."""
    settings = old.settings.untracked()
    values: dict[str, Any] = {name: getattr(settings.specialist, name) for name in TrainingSettings.model_fields}
    values["epochs"] = settings.base.epochs if epochs is None else epochs
    if learning_rate is not None:
        values["learning_rate"] = learning_rate
    return settings.model_copy(
        update={
            "base": TrainingSettings(**values),
            "specialist": settings.specialist.model_copy(update={"trainable": "all"}),
            "partition": PartitionSettings(clusters=(len(labels_of(old.manifest)),)),
            "gate": GateSettings(**ALONE),
        }
    ).all_given()
