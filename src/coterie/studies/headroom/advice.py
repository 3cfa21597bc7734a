"""What specialists could bring, before one is trained: every partition that is tried, and which to take, if any.

Arrays only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from coterie.errors import PartitionError
from coterie.pages.format import hundredths, interval, percent, points
from coterie.partition import Partition, confusion_counts
from coterie.progress import SILENT, Progress
from coterie.routing.forecast import SKILLS, BasePredictions, Forecast, Outlook, Skill, best_gain, forecast
from coterie.system.units import how_many
from coterie.vocabulary import ForecastRule, PartitionMethod

MOST_CLUSTERS = 50
GRID = 10
# A gain is promised where it is at least as likely as not.
LIKELY = 0.5


@dataclass(frozen=True)
class Setting:
    """One partition that was tried. Accuracies, gains and shares are of 1.

    ``router_accuracy``: the likeliest cluster holds the true class; ``restricted_accuracy``: of the base among the
    true cluster's classes; ``ceiling_hard`` and ``ceiling_compose``: of an ensemble whose specialists are always right
    in their clusters, by either rule, with the best threshold; ``gain``: forecast, with its 95 % interval;
    ``chance``: that the gain is as large as asked for; ``routed``: share of samples routed for nearly all of it;
    ``routed_for_gain``: the least share for the gain asked for, None where it is not in reach; ``n_specialists``:
    clusters of two classes or more; ``trained_share``: of the samples, those that a specialist is trained on;
    ``least_shown``: the least gain that so many samples tell from chance.
    """

    method: PartitionMethod
    n_clusters: int
    smallest: int
    median: float
    largest: int
    router_accuracy: float
    restricted_accuracy: float
    ceiling_hard: float
    ceiling_compose: float
    gain: float
    gain_low: float
    gain_high: float
    chance: float
    routed: float
    routed_for_gain: float | None
    n_specialists: int
    trained_share: float
    least_shown: float


@dataclass(frozen=True)
class Advice:
    """Whether specialists are worth training, the setting to train (or the best of those that are not worth it), and
    the reasons, a sentence each.
    """

    train: bool
    setting: Setting
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Headroom:
    """All settings that were tried, and which to take. ``asked``: the gain that would be worth it."""

    n_samples: int
    n_classes: int
    base_accuracy: float
    rule: ForecastRule
    asked: float
    settings: tuple[Setting, ...]
    advice: Advice
    partition: Partition

    def with_reasons(self, reasons: tuple[str, ...]) -> Headroom:
        """The same advice with other reasons."""
        return replace(self, advice=replace(self.advice, reasons=reasons))

    def to_values(self) -> dict[str, Any]:
        """Plain values, as JSON holds them; ``cluster_of_class`` is that of the advised setting."""
        return {
            "n_samples": self.n_samples,
            "n_classes": self.n_classes,
            "base_accuracy": self.base_accuracy,
            "rule": self.rule,
            "asked": self.asked,
            "settings": [asdict(setting) for setting in self.settings],
            "advice": asdict(self.advice),
            "cluster_of_class": self.partition.cluster_of_class_C.tolist(),
        }


def numbers_to_try(n_classes: int) -> tuple[int, ...]:
    """Ten numbers of clusters, from 2 to half the classes or 50, evenly in their logarithm."""
    most = min(n_classes // 2, MOST_CLUSTERS)
    return tuple(np.unique(np.geomspace(2, most, GRID).round().astype(int)).tolist()) if most > 2 else (2,)


def survey(
    answers: BasePredictions,
    make: Callable[[PartitionMethod, int, Any], Partition],
    methods: Sequence[PartitionMethod],
    n_clusters: Sequence[int],
    *,
    rule: ForecastRule = "hard",
    asked: float = 0.005,
    skill: Skill | None = None,
    most_routed: float = 1.0,
    progress: Progress = SILENT,
) -> Headroom:
    """Try every number of clusters with every method, and choose.

    Args:
        answers: the base on validation samples.
        make: a partition from a method, a number of clusters and counts of confusion.
        methods: to try. Confusion looks at the samples that judge it, so it groups by half of them and is judged on the
            other half; the partition that is returned is made from all.
        n_clusters: the values of S to try; a method that gives another number is entered once under that.
        rule: how a specialist's answer is used.
        asked: the gain in accuracy that would be worth it, as a share of 1.
        skill: of specialists; default: what is known of the rule.
        most_routed: share of the samples that may be routed.
        progress: progress callback.

    Raises:
        PartitionError: what cannot be partitioned so, or nothing to try.
    """
    if not methods or not n_clusters:
        raise PartitionError("headroom needs a method and a number of clusters to try; got none")
    skill = skill or SKILLS[rule]
    half_N = np.random.default_rng(0).permutation(answers.n_samples) % 2 == 0
    judge = answers.take(np.flatnonzero(~half_N)) if "confusion" in methods and answers.n_samples > 1 else answers
    progress.stage("partitions", len(methods) * len(n_clusters))
    tried: dict[tuple[PartitionMethod, int], tuple[Setting, Forecast]] = {}
    for method in methods:
        by, seen_CC = answers, None
        if method == "confusion":
            seen = np.flatnonzero(half_N)
            by, seen_CC = judge, confusion_counts(answers.proba_NC[seen], answers.label_N[seen])
        for wanted in n_clusters:
            partition = make(method, wanted, seen_CC)
            if (method, partition.n_clusters) not in tried:
                tried[method, partition.n_clusters] = judge_partition(
                    by, partition, method, rule, asked, skill, most_routed
                )
            progress.advance(1)
    ordered = sorted(tried.values(), key=lambda entry: (entry[0].n_clusters, methods.index(entry[0].method)))
    chosen = _choose(ordered)
    counts_CC = confusion_counts(answers.proba_NC, answers.label_N)
    return Headroom(
        answers.n_samples,
        answers.n_classes,
        answers.accuracy,
        rule,
        asked,
        tuple(setting for setting, _ in ordered),
        _advise(answers, chosen, rule, asked, skill),
        make(chosen.method, chosen.n_clusters, counts_CC),
    )


def judge_partition(
    answers: BasePredictions,
    partition: Partition,
    method: PartitionMethod,
    rule: ForecastRule,
    asked: float,
    skill: Skill,
    most_routed: float,
) -> tuple[Setting, Forecast]:
    """All figures of one partition."""
    outlook = Outlook.of(answers, partition)
    hope = forecast(answers, outlook, rule, skill, most_routed=most_routed)
    size_S = partition.size_S
    right_N = answers.right_N.astype(np.float32)
    ceilings = (best_gain(answers, reached_N - right_N) for reached_N in (outlook.held_N, outlook.reachable_N))
    hard, compose = (answers.accuracy + gain for gain in ceilings)
    setting = Setting(
        method=method,
        n_clusters=partition.n_clusters,
        smallest=int(size_S.min()),
        median=float(np.median(size_S)),
        largest=int(size_S.max()),
        router_accuracy=float(outlook.held_N.mean()),
        restricted_accuracy=float(outlook.oracle_N.mean()),
        ceiling_hard=hard,
        ceiling_compose=compose,
        gain=hope.gain,
        gain_low=hope.low,
        gain_high=hope.high,
        chance=float((hope.gain_B >= asked).mean()),
        routed=hope.routed,
        routed_for_gain=hope.routed_for(asked),
        n_specialists=int((size_S > 1).sum()),
        trained_share=float((size_S[partition.cluster_of_class_C[answers.label_N]] > 1).mean()),
        least_shown=hope.least_shown,
    )
    return setting, hope


def _choose(tried: Sequence[tuple[Setting, Forecast]]) -> Setting:
    """The fewest specialists among the settings whose gain is within one standard error of the best one's, of their
    difference over the same draws (Breiman et al. 1984).
    """
    best = max(tried, key=lambda entry: entry[0].gain)[1]
    good = [
        setting
        for setting, hope in tried
        # Halves judged for confusion are other samples: their draws are not paired, but as many.
        if best.gain - hope.gain <= float((best.gain_B - hope.gain_B).std())
    ]
    return min(good, key=lambda setting: (setting.n_specialists, -setting.gain))


def _advise(answers: BasePredictions, setting: Setting, rule: ForecastRule, asked: float, skill: Skill) -> Advice:
    train = setting.chance >= LIKELY
    errors = 1 - answers.accuracy
    ceiling = (setting.ceiling_hard if rule == "hard" else setting.ceiling_compose) - answers.accuracy
    hope = (
        f"A gain of {100 * asked:.2g} points or more has a chance of {percent(setting.chance, 0)}: forecast "
        f"{points(setting.gain)} points (95 % interval {interval(setting.gain_low, setting.gain_high)}), with "
        f"{percent(setting.routed, 0)} of the samples routed."
    )
    room = (
        f"The base errs on {percent(errors, 1)}. Specialists that are never wrong would win {hundredths(ceiling, 1)} "
        f"points; the likeliest cluster holds the true class of {percent(setting.router_accuracy, 1)}. "
        + (
            f"A pilot put right {percent(skill.mean, 0)} of the errors open to it, net."
            if skill.measured
            else f"That trained ones win {percent(skill.mean, 0)} of the errors open to them is a guess: on other "
            "bases it was 0 to 25 %. `coterie fit` trains a pilot first, which measures it on this one."
        )
    )
    few = (
        f"By {how_many(answers.n_samples, 'sample')} a gain below {hundredths(setting.least_shown, 1)} points cannot "
        "be told from chance, and `coterie fit` then routes nothing; more validation samples would tell."
    )
    choice = (
        f"{setting.method} with {how_many(setting.n_clusters, 'cluster')} has the fewest specialists of the settings "
        "whose gain is within a standard error of the best one's."
    )
    reasons = [hope, room]
    if setting.least_shown > asked:
        reasons.append(few)
    return Advice(train, setting, (*reasons, choice) if train else tuple(reasons))
