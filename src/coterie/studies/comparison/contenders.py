"""What a run and its controls answer, and what each costs: the rows of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from scipy.special import log_softmax, softmax

from coterie.arrays import FloatArray, IntArray
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.pages.format import decimal
from coterie.routing.calibration import temperature
from coterie.routing.evaluation import Outputs
from coterie.routing.gate import Budget
from coterie.routing.tune import TuningRequest, tune
from coterie.run.contents import Kind, read_arrays
from coterie.run.folder import FinishedRun, Run
from coterie.run.manifest import MANIFEST
from coterie.run.names import BASE_FILE
from coterie.run.reporting import read_outputs
from coterie.run.values import base_came_trained, gate_record, partition_of, rule_of
from coterie.studies.comparison.controls import (
    ALL_CLASSES,
    CONFUSION,
    FEATURES,
    FITTED_HEAD,
    MEMBER,
    NEIGHBOURS,
    RANDOM,
    SPLITS,
    SUPERCLASSES,
    WEIGHT_AVERAGE,
    control_settings,
    controls_folder,
    flipped_file,
    read_flipped,
)
from coterie.studies.comparison.costs import CostModel
from coterie.studies.comparison.tables import Contender, ContenderCost
from coterie.studies.comparison.untrained import class_offsets, mixing_weight
from coterie.system.units import how_many
from coterie.vocabulary import ContenderKind

# Mean forward passes for which the rule is chosen anew, beside the run's own.
TUNED_PASSES = (1.5, 2.0)
Pair = tuple[FloatArray, FloatArray]  # probabilities on validation and on test


@dataclass(frozen=True, eq=False)
class Contenders:
    """Rows of a comparison, the base first; labels of both splits; what was left out, and why."""

    answers: tuple[Contender, ...]
    validation_N: np.ndarray
    test_N: np.ndarray
    notes: tuple[str, ...]


def contenders_of(
    run: FinishedRun, splits: Splits, siblings: Sequence[Run] = (), trust: str | None = None
) -> Contenders:
    """All that a finished run and its controls answer.

    Args:
        run: a finished run.
        splits: its data.
        siblings: finished runs on the same splits with other seeds, whose bases make deep ensembles with this one.
        trust: as for ``load_ensemble``, of the run and of its controls.

    Raises:
        ArtifactError: as ``load_ensemble``.
    """
    case = _Case.of(run, splits, trust)
    rows = (
        *_of_base(case),
        *_of_offsets(case),
        *_of_features(case),
        *_of_partitions(case),
        *_of_other_rules(case),
        *_of_all_class_copy(case),
        *_of_weight_average(case),
        *_of_deep_ensembles(case, siblings),
    )
    validation, test = (read_outputs(run, split) for split in SPLITS)
    return Contenders(rows, validation.label_N, test.label_N, tuple(case.notes))


@dataclass(frozen=True, eq=False)
class _Case:
    """What all rows are made from. ``flips``: False, and True where mirrored images were seen too; ``base``: its
    answers, by flips; ``costs``: of the run; ``notes``: grows with what is left out.
    """

    run: FinishedRun
    splits: Splits
    settings: FitSettings
    folder: Path
    flips: tuple[bool, ...]
    base: Mapping[bool, Pair]
    costs: CostModel
    notes: list[str]
    trust: str | None

    @classmethod
    def of(cls, run: FinishedRun, splits: Splits, trust: str | None) -> Self:
        settings = control_settings(run)
        notes = [] if splits.flip else ["Flips are left out: a mirrored image of this data is another class."]
        if base_came_trained(run):
            notes.append(
                f"The base came trained: its own training is taken to be the {settings.base.epochs} epochs that "
                "--base.epochs says, and bases of other seeds cannot be made."
            )
        flips = (False, True) if run.has(flipped_file("test")) else (False,)
        base = {flip: _base(run, flip) for flip in flips}
        costs = CostModel.of(run, splits, trust)
        return cls(run, splits, settings, controls_folder(run.path), flips, base, costs, notes, trust)

    @cached_property
    def validation_N(self) -> IntArray:
        """True classes on validation."""
        return read_outputs(self.run, "validation").label_N

    @property
    def longer(self) -> float:
        """Cost of the base's training and the specialists' epochs over all classes, in multiples of the base's."""
        return 1 + self.settings.specialist.epochs / self.settings.base.epochs

    def finished(self, name: str, title: str) -> Run | None:
        """A finished control, or None with a note on why it is left out."""
        return _finished(self.folder / name, title, self.notes)


def _row(name: str, about: str, kind: ContenderKind, pair: Pair, cost: ContenderCost, flip: bool) -> Contender:
    """A mirrored image takes a pass more for each."""
    validation_NC, test_NC = pair
    paid = replace(cost, inference=cost.inference * (2 if flip else 1))
    return Contender(name, about, kind, validation_NC.argmax(axis=1), test_NC, paid, flip)


def _of_base(case: _Case) -> Iterator[Contender]:
    """The base, and with its temperature."""
    for flip in case.flips:
        kind: ContenderKind = "control" if flip else "base"
        yield _row("base", "the base as it stands", kind, case.base[flip], ContenderCost(), flip)
        scaled, scale = _calibrated(case.base[flip], case.validation_N)
        about = f"the base at temperature {decimal(scale)}"
        yield _row("base, calibrated", about, "control", scaled, ContenderCost(), flip)


def _of_offsets(case: _Case) -> Iterator[Contender]:
    """The base with a number for each class added to its logits, which validation chooses."""
    for flip in case.flips:
        logits = [_log(proba_NC) for proba_NC in case.base[flip]]
        offset_C = class_offsets(logits[0], case.validation_N)
        pair = _pair([softmax(logits_NC + offset_C, axis=1) for logits_NC in logits])
        about = (
            "the base's logits with a number for each class added, so that validation has its predictions in balance"
        )
        yield _row("class offsets", about, "control", pair, ContenderCost(), flip)


def _of_features(case: _Case) -> Iterator[Contender]:
    """What the base's features say without any training, each beside the base with the weight that validation chooses:
    the nearest training samples, and a head that is fitted to them.
    """
    control, first = case.finished(FEATURES, "the base's features"), f"logits/{SPLITS[0]}.safetensors"
    if control is None:
        return
    if not control.has(first):
        case.notes.append("The base's features are left out: they are not to be had, or take too much memory.")
        return
    # The training samples pass through the base once; a step of training takes about three passes.
    training = 1 + 1 / (3 * case.settings.base.epochs)
    head = case.run.manifest.head
    n_features = len(case.splits.train) * head.in_features
    # For each sample asked, each feature of each training sample is multiplied and added; and each is kept.
    base_bytes = case.run.manifest.files[BASE_FILE].bytes
    search, kept = 2 * n_features / case.costs.base_pass, 4 * n_features / base_bytes
    another_head = 4 * (head.in_features + 1) * head.out_features / base_bytes
    rows = {
        NEIGHBOURS: (
            "nearest neighbours",
            "its nearest training samples",
            ContenderCost(training, 1 + search, 1 + kept),
        ),
        FITTED_HEAD: (
            "fitted head",
            "a head that is fitted to its features",
            ContenderCost(training, 1.0, 1 + another_head),
        ),
    }
    there = control.read_tensors(first)
    for name, (named, what, cost) in rows.items():
        for flip in case.flips if name in there else ():
            pair, weight = _mixed(case.base[flip], _stored(case, control, name, flip), case.validation_N)
            about = f"the mean of the base and, with a weight of {decimal(weight)}, {what}"
            yield _row(named, about, "control", pair, cost, flip)


def _of_partitions(case: _Case) -> Iterator[Contender]:
    """The run by its own rule, and specialists for other clusters."""
    others: tuple[tuple[str, str, ContenderKind], ...] = (
        (CONFUSION, "confusion clusters", "partition"),
        (SUPERCLASSES, "superclasses", "partition"),
        (RANDOM, "random clusters", "control"),
    )
    yield from _of_partition(case, case.run, case.costs, "specialists", "specialists")
    for name, title, kind in others:
        control = case.finished(name, title)
        if control is not None:
            costs = CostModel.of(control, case.splits, case.trust)
            yield from _of_partition(case, control, costs, title, kind)


def _of_partition(case: _Case, run: Run, costs: CostModel, title: str, kind: ContenderKind) -> Iterator[Contender]:
    partition = partition_of(run.manifest)
    sizes = ", ".join(str(size) for size in partition.size_S.tolist())
    about = f"{partition.n_clusters} specialists for clusters of {sizes} classes"
    for flip in case.flips:
        pair, cost, rule = _routed(run, costs, flip)
        yield _row(title, f"{about}: {rule}", kind, pair, cost, flip)


def _of_other_rules(case: _Case) -> Iterator[Contender]:
    """The run by the best rules for given numbers of passes."""
    for passes in TUNED_PASSES:
        for flip in case.flips:
            pair, cost, rule = _routed(case.run, case.costs, flip, TuningRequest(budget=Budget(passes=passes)))
            about = f"the run's specialists, by the best rule for at most {passes:g} passes: {rule}"
            yield _row(f"tuned to {passes:g} passes", about, "tuned", pair, cost, flip)


def _of_all_class_copy(case: _Case) -> Iterator[Contender]:
    """One specialist of all classes: alone, and averaged with the base."""
    copy = case.finished(ALL_CLASSES, "all-class copy")
    if copy is None:
        return
    for flip in case.flips:
        alone = _copy(copy, flip)
        about = "the base after the specialists' epochs over all classes"
        yield _row("base, trained on", about, "control", alone, ContenderCost(case.longer), flip)
        about = "the mean of the base and of one copy of it, trained on for the specialists' epochs (S = 1)"
        pair, cost = _average([case.base[flip], alone]), ContenderCost(case.longer, 2.0, 2.0)
        yield _row("all-class copy", about, "control", pair, cost, flip)


def _of_weight_average(case: _Case) -> Iterator[Contender]:
    """The mean of the weights of several cycles, and of their probabilities."""
    average = case.finished(WEIGHT_AVERAGE, "weight average")
    if average is None:
        return
    n_cycles = case.settings.specialist.epochs
    for flip in case.flips:
        about = f"the mean of the weights at the end of {n_cycles} cycles of one epoch"
        cost = ContenderCost(case.longer)
        yield _row("weight average", about, "control", _stored(case, average, "logits", flip), cost, flip)
        about = f"the mean of the probabilities at the end of the same {n_cycles} cycles"
        cost = ContenderCost(case.longer, n_cycles, n_cycles)
        yield _row("snapshots", about, "control", _stored(case, average, "cycles", flip), cost, flip)


def _of_deep_ensembles(case: _Case, siblings: Sequence[Run]) -> Iterator[Contender]:
    """Means of the base and of bases from other seeds: those of siblings, then those trained as controls."""
    members = [{flip: _base(sibling, flip) for flip in case.flips} for sibling in siblings]
    for place in sorted(case.folder.glob(f"{MEMBER}-*")):
        member = _finished(place, "deep ensemble", case.notes)
        if member is not None:
            members.append({flip: _stored(case, member, "logits", flip) for flip in case.flips})
    for size in (2, 4):
        if len(members) + 1 < size:
            case.notes.append(
                f"The deep ensemble of {size} is left out: there are {len(members) + 1} bases on these splits."
            )
            continue
        for flip in case.flips:
            pair = _average([case.base[flip], *(member[flip] for member in members[: size - 1])])
            about = f"the mean of {size} bases from different seeds"
            cost = ContenderCost(size, size, size)
            yield _row(f"deep ensemble of {size}", about, "dearer", pair, cost, flip)


def _base(run: Run, flip: bool) -> Pair:
    return _pair([softmax(outputs_of(run, split, flip).base_NC, axis=1) for split in SPLITS])


def _copy(run: Run, flip: bool) -> Pair:
    """The only specialist of a partition with one cluster: its columns are all classes, in their order."""
    return _pair([softmax(outputs_of(run, split, flip).packed_NM, axis=1) for split in SPLITS])


def _routed(
    run: Run, price: CostModel, flip: bool, request: TuningRequest | None = None
) -> tuple[Pair, ContenderCost, str]:
    """The ensemble of a run by its own rule, or by the best that a request allows, and that rule in words. With flips,
    what a rule leaves open is chosen anew on validation.
    """
    partition, rule = partition_of(run.manifest), rule_of(run.manifest)
    outputs = [outputs_of(run, split, flip) for split in SPLITS]
    if request is None and flip:
        limits = Budget(**gate_record(run.manifest).limits)
        request = TuningRequest((rule.combiner.name,), (rule.gate.score,), (rule.combiner.top,), limits)
    if request is not None:
        rule = tune(outputs[0], partition, request, run.settings.seed).rule
    questions = [rule.ask(each.base_NC, partition) for each in outputs]
    asked_NS = [question.asked(question.routed_N) for question in questions]
    proba = [
        question.combine(each.packed_NM, asked)
        for question, each, asked in zip(questions, outputs, asked_NS, strict=True)
    ]
    runs_S = (asked_NS[1] & rule.combiner.needs_specialist(partition)).mean(axis=0)
    title = f"{rule.combiner.name}, the {how_many(rule.combiner.top, 'likeliest cluster')}, gate {rule.gate.score}"
    return _pair(proba), price.cost(runs_S), title


def outputs_of(run: Run, split: str, flip: bool) -> Outputs:
    """What base and specialists say; with flips, the log of the mean probabilities of an image and its mirror."""
    plain = read_outputs(run, split)
    if not flip:
        return plain
    flipped, partition = read_flipped(run, split), partition_of(run.manifest)
    packed_NM = np.empty_like(plain.packed_NM)
    for cluster in range(partition.n_clusters):
        columns = partition.columns(cluster)
        packed_NM[:, columns] = _log_mean(plain.packed_NM[:, columns], flipped.packed_NM[:, columns])
    return replace(plain, base_NC=_log_mean(plain.base_NC, flipped.base_NC), packed_NM=packed_NM)


def _log_mean(first: FloatArray, second: FloatArray) -> FloatArray:
    """The logarithm of the mean of two softmaxes, in the place of logits."""
    return np.logaddexp(log_softmax(first, axis=1), log_softmax(second, axis=1)) - np.log(2).astype(first.dtype)


def _stored(case: _Case, run: Run, name: str, flip: bool) -> Pair:
    """What a control that is one network says: the logits of that name."""
    views = ("", "-flipped") if flip else ("",)
    kinds: dict[str, tuple[Kind, str]] = {name: ("numbers", "NC")}
    pair = []
    for split, base_NC in zip(SPLITS, case.base[False], strict=True):
        sizes = dict(zip("NC", base_NC.shape, strict=True))
        logits = [read_arrays(run, f"logits/{split}{view}.safetensors", kinds, sizes)[name] for view in views]
        pair.append(np.mean([softmax(logits_NC, axis=1) for logits_NC in logits], axis=0))
    return _pair(pair)


def _finished(place: Path, title: str, notes: list[str]) -> Run | None:
    """A finished run or control, or None with a note on why it is left out."""
    if not (place / MANIFEST).exists():
        notes.append(f"{title}: left out, it was not trained.")
        return None
    run = Run.open(place)
    if not run.manifest.complete:
        notes.append(f"{title}: left out, its training was cut short; `coterie compare` goes on with it.")
        return None
    return run


def _calibrated(pair: Pair, validation_N: IntArray) -> tuple[Pair, float]:
    """A classifier at the temperature under which validation is most likely, and that temperature."""
    scale = temperature(_log(pair[0]), validation_N)
    return _pair([softmax(_log(proba_NC) / scale, axis=1) for proba_NC in pair]), scale


def _mixed(first: Pair, second: Pair, validation_N: IntArray) -> tuple[Pair, float]:
    """Two classifiers, each at its temperature, with the second's weight that validation chooses, and that weight."""
    (first, _), (second, _) = (_calibrated(pair, validation_N) for pair in (first, second))
    weight = mixing_weight(first[0], second[0], validation_N)
    return _pair([(1 - weight) * one + weight * other for one, other in zip(first, second, strict=True)]), weight


def _average(pairs: Sequence[Pair]) -> Pair:
    return _pair([np.mean([pair[place] for pair in pairs], axis=0) for place in (0, 1)])


def _pair(arrays: Sequence[FloatArray]) -> Pair:
    return arrays[0], arrays[1]


def _log(proba: FloatArray) -> FloatArray:
    return np.log(np.maximum(proba, np.finfo(proba.dtype).tiny))
