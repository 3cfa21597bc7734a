"""A run, or a file of logits -> its headroom, in a folder.

::

    OUT/headroom.json    all settings that were tried, the advice, the clusters of the advised setting
    OUT/headroom.html    the table and the picture
"""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from coterie.config import FitSettings, GateSettings
from coterie.config.recipes import GATE
from coterie.errors import PartitionError
from coterie.label_file import read_column
from coterie.logits_file import read_logits
from coterie.pages.format import count, interval, percent, points
from coterie.partition import Partition, PartitionRequest, make_partition
from coterie.partition.embedding import LabelEmbedding
from coterie.pipeline.recipe import FEWEST_CLASSES, LEAST_OPEN, usual_clusters
from coterie.pipeline.tuning import forecast_rule
from coterie.progress import Progress
from coterie.routing.forecast import SKILLS, BasePredictions, Skill, routable
from coterie.routing.pilot import open_share
from coterie.studies.headroom.advice import Headroom, Setting, judge_partition, numbers_to_try, survey
from coterie.studies.headroom.costs import SettingCost, SpecialistPrice
from coterie.studies.headroom.page import HeadroomContent, render
from coterie.system.files import write_whole
from coterie.vocabulary import ForecastRule, PartitionMethod

FORMAT = 1
# A base that is right on its training samples hardly more often than on others has not been trained to its end.
LEARNING = 0.02
DEFAULT_METHODS: tuple[PartitionMethod, ...] = ("spectral", "average")


@dataclass(frozen=True, eq=False)
class Source:
    """What headroom is computed of: label vectors of shape (C, D), the base's answers, and what training would cost.

    ``run``: the folder, or None for a file of logits; ``groups``: given groups of the classes, or None, and where they
    came from; ``most_routed``: share of the samples that the gate may route, by its limits; ``training_accuracy``: of
    the base in its last epoch, where that is known; ``skill``: measured by the run's pilot, where it had one;
    ``caution``: why figures on these samples may not hold; ``reached``: what the run's own specialists have gained.
    """

    about: str
    vectors_CD: NDArray[Any]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None
    validation: BasePredictions
    test: BasePredictions | None
    price: SpecialistPrice
    rule: ForecastRule
    seed: int
    run: Path | None
    groups_place: str | None = None
    most_routed: float = 1.0
    training_accuracy: float | None = None
    skill: Skill | None = None
    caution: str = ""
    reached: str = ""


@dataclass(frozen=True)
class HeadroomRequest:
    """What is asked for; ``clusters`` of None: a grid; ``asked``: the gain in points that would be worth it; ``rule``
    of None: the run's, or the default of `coterie fit`.
    """

    methods: tuple[PartitionMethod, ...] = DEFAULT_METHODS
    clusters: tuple[int, ...] | None = None
    asked: float = 0.5
    rule: ForecastRule | None = None


@dataclass(frozen=True, eq=False)
class HeadroomStudy:
    """The headroom of a source. ``test``: the advised setting on test samples, which took no part in choosing it."""

    source: Source
    headroom: Headroom
    test: Setting | None
    next_command: str | None

    @property
    def costs(self) -> tuple[SettingCost, ...]:
        """Of each setting."""
        return tuple(self.source.price.of(setting) for setting in self.headroom.settings)

    @property
    def caution(self) -> str | None:
        """That the base may know these samples; or that it is still learning, where it is: its copies gain from any
        training then.
        """
        if self.source.caution:
            return self.source.caution
        known, here = self.source.training_accuracy, self.headroom.base_accuracy
        if known is None or known >= here + LEARNING:
            return None
        return (
            f"The base is still learning: in its last epoch it was right on {percent(known, 1)} of its training "
            f"samples, on {percent(here, 1)} here. More training of the base may gain as much; the forecast does not "
            "hold for it."
        )

    def to_values(self) -> dict[str, Any]:
        """Plain values, as headroom.json holds them."""
        return {
            "format": FORMAT,
            "about": self.source.about,
            **self.headroom.to_values(),
            "costs": [asdict(cost) for cost in self.costs],
            "test": asdict(self.test) if self.test else None,
            "caution": self.caution,
            "next_command": self.next_command,
        }


def read_source(
    place: Path, *, names: str | None = None, groups: str | None = None, trust: str | None = None
) -> Source:
    """A run folder whose base is trained, finished or not, or a file of logits.

    Args:
        place: the run, or a file as ``logits_file.read_logits`` takes.
        names: of the classes, see ``label_file.read_column``; default: the run's own; of logits, numbers.
        groups: given groups of the classes, likewise.
        trust: of a run, as for ``load_ensemble``.

    Raises:
        DataError: a file that cannot be read, or does not fit.
        ArtifactError: a run that has no trained base yet, or whose base has to be built by code that nobody said to
            trust.
    """
    source = _read_run(place, groups, trust) if place.is_dir() else _read_file(place, names, groups)
    if names:
        source = replace(source, names=read_column(names, len(source.names), "names"))
    return source


def study_headroom(source: Source, request: HeadroomRequest, progress: Progress) -> HeadroomStudy:
    """Try every setting and choose one.

    Raises:
        PartitionError: a number of clusters or a method that the classes do not allow.
    """
    n_classes = len(source.names)
    if n_classes < 3:
        raise PartitionError(f"{n_classes} classes cannot be grouped; headroom needs at least 3")
    clusters = request.clusters or numbers_to_try(n_classes)
    if min(clusters) < 1 or max(clusters) > n_classes:
        raise PartitionError(f"cannot try {list(clusters)} clusters of {n_classes} classes; allowed: 1 to {n_classes}")
    if ("given" in request.methods) != (source.groups is not None):
        raise PartitionError("method given needs --groups, and no other method takes any")

    def make(method: PartitionMethod, n_clusters: int, confusion_CC: Any) -> Partition:
        wanted = PartitionRequest(method, n_clusters, None, source.seed)
        return make_partition(wanted, source.vectors_CD, confusion_CC, source.groups)

    rule = request.rule or source.rule
    asked, skill = request.asked / 100, source.skill or SKILLS[rule]
    headroom = survey(
        source.validation,
        make,
        request.methods,
        clusters,
        rule=rule,
        asked=asked,
        skill=skill,
        most_routed=source.most_routed,
        progress=progress,
    )
    if source.reached:
        headroom = headroom.with_reasons((source.reached, *headroom.advice.reasons))
    method = headroom.advice.setting.method
    test = (
        judge_partition(source.test, headroom.partition, method, rule, asked, skill, source.most_routed)[0]
        if source.test is not None
        else None
    )
    found: Partition | None = headroom.partition
    if headroom.advice.train and request.clusters is None and source.groups is None and n_classes >= FEWEST_CLASSES:
        usual = usual_clusters(n_classes)
        share = open_share(source.validation, make("spectral", usual, None))
        if share < LEAST_OPEN:
            headroom, found = headroom.with_reasons((*headroom.advice.reasons, _one_of_all(share, usual))), None
    command = next_command(source, found, method) if headroom.advice.train else None
    return HeadroomStudy(source, headroom, test, command)


def _one_of_all(share: float, n_clusters: int) -> str:
    """That `coterie fit` does something else by itself, see ``PartitionSettings.least_open``."""
    return (
        f"Of the errors {percent(share, 0)} lie inside the likeliest of {n_clusters} clusters. With less than "
        f"{percent(LEAST_OPEN, 0)}, `coterie fit` without options of the partition trains one specialist of all "
        "classes, where a part of the network is enough for it: such ones have gained more than those of clusters. It "
        "has no forecast."
    )


def write_study(result: HeadroomStudy, out: Path) -> None:
    """Leave headroom.json and headroom.html in a folder.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    write_whole(out / "headroom.json", json.dumps(result.to_values(), allow_nan=False).encode())
    page = render(
        HeadroomContent(
            result.source.about, result.headroom, result.costs, result.test, result.caution, result.next_command
        )
    )
    write_whole(out / "headroom.html", page.encode("utf-8", "replace"))


def next_command(source: Source, partition: Partition | None, method: PartitionMethod) -> str | None:
    """What trains specialists for a partition on the run's base, or, for None, whatever `coterie fit` takes; None where
    there is no run.
    """
    if source.run is None:
        return None
    if partition is None:
        out = source.run.with_name(f"{source.run.name}-specialists")
        return shlex.join(["coterie", "fit", "--base", str(source.run), "--out", str(out)])
    out = source.run.with_name(f"{source.run.name}-{method}-{partition.n_clusters}")
    words = ["coterie", "fit", "--base", str(source.run), "--partition.method", method]
    words += ["--partition.clusters", str(partition.n_clusters)]
    words += ["--partition.groups", source.groups_place] if method == "given" and source.groups_place else []
    return shlex.join([*words, "--out", str(out)])


def _read_file(file: Path, names: str | None, groups: str | None) -> Source:
    found = read_logits(file, read_column(names, None, "names") if names else None)
    validation, test = (None if part is None else BasePredictions.of(part) for part in found)
    assert validation is not None  # read_logits sees to it
    n, n_classes = validation.logits_NC.shape
    return Source(
        about="; ".join(
            [f"{count(n)} samples of {count(n_classes)} classes, the logits of {file.name}", *found[0].notes]
        ),
        vectors_CD=LabelEmbedding.from_logits(validation.logits_NC).vectors_CD,
        names=tuple(str(k) for k in range(n_classes)),
        groups=read_column(groups, n_classes, "groups") if groups else None,
        validation=validation,
        test=test,
        price=SpecialistPrice(FitSettings().specialist.epochs),
        rule=forecast_rule(GateSettings()),
        seed=0,
        run=None,
        groups_place=groups,
        # As `coterie fit` would by itself, with specialists that are whole.
        most_routed=routable(GATE["passes"], None, 1.0),
    )


def _read_run(folder: Path, groups: str | None, trust: str | None) -> Source:
    from coterie.run.caution import caution_on
    from coterie.run.folder import Run
    from coterie.run.names import BASE_FILE
    from coterie.run.values import pass_cost_of
    from coterie.studies.partition.labels import read_labels

    run = Run.open(folder)
    labels = read_labels(folder, groups=groups)
    manifest = run.manifest
    settings = manifest.settings
    validation = _stored(run, "validation") or _computed(run, settings, trust)
    # A base that came trained took no seconds here, and nothing is known of its epochs.
    seconds = manifest.seconds.get(BASE_FILE) or None
    per_epoch = None if seconds is None else seconds / settings.base.epochs
    epochs = settings.specialist.epochs
    return Source(
        about=f"The run {folder.name}: {len(labels.names)} classes, {count(validation.n_samples)} validation samples",
        vectors_CD=labels.vectors_CD,
        names=labels.names,
        groups=labels.groups,
        validation=validation,
        test=_stored(run, "test"),
        price=SpecialistPrice(
            epochs, None if per_epoch is None else per_epoch * epochs, manifest.files[BASE_FILE].bytes
        ),
        rule=forecast_rule(settings.gate),
        seed=settings.seed,
        run=folder,
        groups_place=groups,
        most_routed=routable(settings.gate.passes, settings.gate.routed, pass_cost_of(manifest)),
        training_accuracy=_training_accuracy(run),
        skill=None if manifest.pilot is None else Skill(manifest.pilot.skill, manifest.pilot.spread, measured=True),
        caution="" if manifest.data is None else caution_on(manifest.data, "validation", "test"),
        reached=_reached(run) if manifest.complete else "",
    )


def _reached(run: Any) -> str:
    """What a finished run's own specialists have gained."""
    from coterie.run.reporting import read_reports

    report = read_reports(run)["test"]
    return (
        f"The run's own specialists have gained {points(report.gain)} points on test (95 % interval "
        f"{interval(report.gain_low, report.gain_high)}) at {report.mean_passes:.2f} passes. That is measured; what "
        "follows is forecast."
    )


def _training_accuracy(run: Any) -> float | None:
    """Of the base, in its last epoch; None where it was trained elsewhere."""
    from coterie.run.contents import HISTORY_FILE, read_history

    epochs = read_history(run).get("base") if run.has(HISTORY_FILE) else None
    return epochs[-1].accuracy if epochs else None


def _stored(run: Any, split: str) -> BasePredictions | None:
    """The base's answers that the run has kept."""
    from coterie.run.reporting import read_base_logits

    kept = read_base_logits(run, split)
    return None if kept is None else BasePredictions(*kept)


def _computed(run: Any, settings: FitSettings, trust: str | None) -> BasePredictions:
    """The base's answers on the run's validation data, for a run that has not got as far as that. The folder is left
    as it is: a `coterie fit` may be at work in it.
    """
    from coterie.pipeline.prepare import base_of_run
    from coterie.training.fabric import make_fabric
    from coterie.training.passes import compute_logits

    splits, base = base_of_run(run, trust)
    fabric = make_fabric(settings.hardware, splits.preprocessing)
    logits_NC = compute_logits(fabric, base.network, splits.validation.samples, splits.preprocessing)
    return BasePredictions(logits_NC, splits.validation.labels_N.numpy())
