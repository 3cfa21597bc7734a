"""What an ensemble would gain with a partition, told from the base's validation logits before a specialist is trained.

Arrays only, in float32 and in blocks of rows: 50,000 samples of 1,000 classes take their logits twice, and little more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.logits_file import LabelledLogits
from coterie.partition import Partition
from coterie.partition.vectors import blocks
from coterie.routing.gate import entropy
from coterie.routing.tune import ERRORS_TO_ROUTE
from coterie.vocabulary import ForecastRule

DRAWS = 200
NEARLY_ALL = 0.95
# Answers that specialists change, rightly or wrongly, for each error open to them: 0.35 to 0.52 on four runs
# (docs/headroom.md). The more of them, the less sure is what validation shows of a gain.
CHANGED = 0.45
INTERVAL = (2.5, 97.5)  # percentiles: 95 %


@dataclass(frozen=True)
class Skill:
    """Share of the errors open to specialists (see ``Outlook.change``) that they put right, net of what they spoil: a
    mean, and its spread (standard deviation), by which it may be off. ``measured``: on specialists of the same base.
    """

    mean: float
    spread: float
    measured: bool = False


# Of any base. On the one network of benchmarks/gains/headroom.md the skill was 0.095 with blend and 0.075 with the
# others, and hardly varied. On bases that it had not seen it came to 0.01, 0.02, -0.01, 0.005 and, of one that was
# still learning, 0.25 (docs/headroom.md). So this is a guess; a pilot measures. Blend is what `auto` mostly chooses.
SKILLS: dict[ForecastRule, Skill] = {
    "hard": Skill(0.055, 0.1),
    "compose": Skill(0.055, 0.1),
    "blend": Skill(0.07, 0.1),
}


@dataclass(frozen=True, eq=False)
class BasePredictions:
    """The base's logits of shape (N, C) on N labelled samples, and all that does not depend on a partition, made once.

    Raises:
        InputError: as LabelledLogits.
    """

    logits_NC: FloatArray
    label_N: IntArray

    def __post_init__(self) -> None:
        LabelledLogits(self.logits_NC, self.label_N)  # checks them
        object.__setattr__(self, "logits_NC", self.logits_NC.astype(np.float32, copy=False))

    @classmethod
    def of(cls, logits: LabelledLogits) -> BasePredictions:
        """Of the base alone."""
        return cls(logits.logits_NC, logits.label_N)

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.label_N)

    @property
    def n_classes(self) -> int:
        """C."""
        return int(self.logits_NC.shape[1])

    def take(self, rows: IntArray) -> BasePredictions:
        """Some samples only."""
        return BasePredictions(self.logits_NC[rows], self.label_N[rows])

    @cached_property
    def proba_NC(self) -> FloatArray:
        """The base's probabilities, float32."""
        proba_NC = np.empty(self.logits_NC.shape, dtype=np.float32)
        for rows in blocks(self.n_samples, self.n_classes):
            proba_NC[rows] = softmax(self.logits_NC[rows], axis=1)
        return proba_NC

    @cached_property
    def right_N(self) -> BoolArray:
        """Whether the base is right."""
        said_N: IntArray = self.logits_NC.argmax(axis=1)
        return said_N == self.label_N

    @property
    def accuracy(self) -> float:
        """Of the base."""
        return float(self.right_N.mean())

    @cached_property
    def order_N(self) -> IntArray:
        """Rows in the order in which the gate would route them, the largest entropy first."""
        score_N = np.empty(self.n_samples, dtype=np.float32)
        for rows in blocks(*self.proba_NC.shape):
            score_N[rows] = entropy(self.proba_NC[rows])
        return np.argsort(-score_N, kind="stable")

    @cached_property
    def draws(self) -> Draws:
        """Resampled data sets, the same ones for every partition: so that their differences are paired."""
        return Draws.make(self.n_samples)


@dataclass(frozen=True, eq=False)
class Draws:
    """B data sets drawn from N samples with replacement (Efron 1979), each cut in two at random.

    ``weight_BN``: how often each sample is in each; ``half_BN``: in which half it is; ``normal_B``, ``noise_B``: of
    each, standard normal numbers for the skill of its specialists, and for what validation shows of their gain.
    """

    weight_BN: NDArray[np.uint8]
    half_BN: BoolArray
    normal_B: FloatArray
    noise_B: FloatArray

    @classmethod
    def make(cls, n_samples: int, n_draws: int = DRAWS, seed: int = 0) -> Draws:
        """Of a seed."""
        rng = np.random.default_rng(seed)
        drawn = (np.bincount(rng.integers(n_samples, size=n_samples), minlength=n_samples) for _ in range(n_draws))
        weight_BN = np.stack([count_N.astype(np.uint8) for count_N in drawn])
        half_BN = rng.random((n_draws, n_samples), dtype=np.float32) < 0.5
        return cls(weight_BN, half_BN, rng.standard_normal(n_draws), rng.standard_normal(n_draws))


@dataclass(frozen=True, eq=False)
class Outlook:
    """What routing and restriction do to each of N samples, before any specialist is trained; fields of shape (N,).

    ``held``: the likeliest cluster holds the true class; ``restricted``: the base among the likeliest cluster's classes
    is right; ``oracle``: the base among the true cluster's classes is right; ``reachable``: by composition, some answer
    of that cluster's specialist would make the ensemble right; ``share``: how much smaller than the base's its task is,
    1 - classes / C, and 0 for a cluster of one class.
    """

    held_N: BoolArray
    restricted_N: BoolArray
    oracle_N: BoolArray
    reachable_N: BoolArray
    share_N: FloatArray

    @classmethod
    def of(cls, answers: BasePredictions, partition: Partition) -> Outlook:
        """Of the clusters of a partition."""
        label_N = answers.label_N
        cluster_N = likeliest_cluster(answers, partition)
        true_cluster_N = partition.cluster_of_class_C[label_N]
        held_N = partition.holds(cluster_N, label_N)
        restricted_N, oracle_N, reachable_N = (np.zeros(len(label_N), dtype=bool) for _ in range(3))
        for cluster in range(partition.n_clusters):
            classes = partition.classes(cluster)
            asked, own = (np.flatnonzero(some_N == cluster) for some_N in (cluster_N, true_cluster_N))
            restricted_N[asked] = _right_among(answers, asked, classes)
            oracle_N[own] = _right_among(answers, own, classes)
            lost = asked[~held_N[asked]]
            reachable_N[lost] = _right_outside(answers, lost, classes)
        size_N = partition.size_S[cluster_N]
        share_N = np.where(size_N > 1, 1 - size_N / answers.n_classes, 0).astype(np.float32)
        return cls(held_N, restricted_N, oracle_N, reachable_N | held_N, share_N)

    def change(self, answers: BasePredictions, rule: ForecastRule) -> tuple[FloatArray, FloatArray]:
        """By how much routing a sample changes its chance to be right: what is certain, and what a skill multiplies.

        ``hard``: the cluster's classes alone are answered, so restriction corrects some samples and spoils others, and
        specialists win a share of what the restricted base gets wrong. ``compose`` and ``blend``: a specialist as
        good as the restricted base changes nothing, and specialists win a share of what the base gets wrong in the
        right cluster.
        """
        if rule == "hard":
            certain_N = self.restricted_N.astype(np.float32) - answers.right_N
            open_N = self.held_N & ~self.restricted_N
        else:
            certain_N = np.zeros(answers.n_samples, dtype=np.float32)
            open_N = self.held_N & ~answers.right_N
        return certain_N, open_N * self.share_N


def likeliest_cluster(answers: BasePredictions, partition: Partition) -> IntArray:
    """The likeliest cluster under the base, of shape (N,), a block of rows at a time."""
    cluster_N = np.empty(answers.n_samples, dtype=np.int64)
    for rows in blocks(*answers.proba_NC.shape):
        cluster_N[rows] = partition.likeliest_N(partition.mass_NS(answers.proba_NC[rows]))
    return cluster_N


def _right_among(answers: BasePredictions, rows: IntArray, classes: IntArray) -> BoolArray:
    right = np.zeros(len(rows), dtype=bool)
    for part in blocks(len(rows), len(classes)):
        said = classes[answers.logits_NC[np.ix_(rows[part], classes)].argmax(axis=1)]
        right[part] = said == answers.label_N[rows[part]]
    return right


def _right_outside(answers: BasePredictions, rows: IntArray, classes: IntArray) -> BoolArray:
    """Whether the true class would be composition's answer, were the specialist of ``classes`` as undecided as can be:
    the cluster's mass, shared out evenly, is less than the base gives to the true class, the best of all others.
    """
    right = np.zeros(len(rows), dtype=bool)
    for part in blocks(len(rows), answers.n_classes):
        proba_BC = answers.proba_NC[rows[part]]
        mass_B = proba_BC[:, classes].sum(axis=1)
        proba_BC[:, classes] = 0.0
        best_B = proba_BC.argmax(axis=1)
        right[part] = (best_B == answers.label_N[rows[part]]) & (proba_BC.max(axis=1) > mass_B / len(classes))
    return right


def best_gain(answers: BasePredictions, change_N: FloatArray) -> float:
    """Gain in accuracy with the threshold that these samples themselves would choose; 0 where routing none is best."""
    return max(0.0, float(np.cumsum(change_N[answers.order_N], dtype=np.float64).max())) / answers.n_samples


@dataclass(frozen=True, eq=False)
class Forecast:
    """A gain in accuracy, as a share of 1, with its 95 % interval.

    ``gain_B``: in each of the draws; ``mean_curve_N``: the gain were the 1, 2, ... N most uncertain samples routed, at
    the mean skill; ``least_shown``: the least gain that so many samples tell from chance.
    """

    gain: float
    low: float
    high: float
    gain_B: FloatArray
    mean_curve_N: FloatArray
    least_shown: float

    @property
    def routed(self) -> float:
        """The least share of samples to route for nearly all that the best threshold gives: towards its end the curve
        is so flat that its very top is chance.
        """
        most = float(self.mean_curve_N.max())
        return (self.routed_for(NEARLY_ALL * most) or 0.0) if most > 0 else 0.0

    def routed_for(self, gain: float) -> float | None:
        """The least share of samples to route for a gain; None where it is not reached."""
        reached = np.flatnonzero(self.mean_curve_N >= gain)
        return (int(reached[0]) + 1) / len(self.mean_curve_N) if reached.size else None


def forecast(
    answers: BasePredictions,
    outlook: Outlook,
    rule: ForecastRule = "hard",
    skill: Skill | None = None,
    beside: Sequence[Outlook] = (),
    most_routed: float = 1.0,
) -> Forecast:
    """The gain that trained specialists would bring, by a rule; with the skill known of it, if none is given.

    Of the errors that are open to a specialist it wins a share, ``skill`` times ``Outlook.share``: the smaller its task
    is than the base's, the more. One cluster of all classes so gains nothing, as the same training could be spent
    without a partition; nor do clusters of one class. Specialists of partitions ``beside`` the first one are asked
    about the same samples, and win the same share of what is open to them and not won yet. At most a share
    ``most_routed`` of the samples is routed, the most uncertain. The interval is a bootstrap over samples in which the
    skill is drawn too; each half of a draw is judged at the threshold that the other half chooses, which takes the
    optimism of that choice away. Where validation would not show the gain clearly, ``tune`` routes nothing, and none is
    gained.
    """
    draws, n, skill = answers.draws, answers.n_samples, skill or SKILLS[rule]
    limit_N = np.arange(n) < most_routed * n
    certain_N, open_N = (part_N[answers.order_N] * limit_N for part_N in outlook.change(answers, rule))
    others = [other.change(answers, rule)[1][answers.order_N] * limit_N for other in beside]

    def won_N(skill: float) -> FloatArray:
        share_N = np.float32(skill) * open_N
        for other_N in others:
            share_N += np.float32(skill) * other_N * (1 - share_N)
        return share_N

    gain_B = np.empty(len(draws.normal_B))
    # How many answers change, of each sample.
    changed_N = np.abs(certain_N) + won_N(CHANGED)
    for draw, (normal, noise) in enumerate(zip(draws.normal_B.tolist(), draws.noise_B.tolist(), strict=True)):
        change_N = certain_N + won_N(skill.mean + skill.spread * normal)
        weight_N = draws.weight_BN[draw]
        gained, changed = _cross_fitted(change_N * weight_N, changed_N * weight_N, draws.half_BN[draw])
        gain_B[draw] = gained if gained + (noise - ERRORS_TO_ROUTE) * np.sqrt(changed) > 0 else 0.0
    low, high = np.percentile(gain_B, INTERVAL) / n
    mean_curve_N = np.cumsum(certain_N + won_N(skill.mean), dtype=np.float64) / n
    best_changed = changed_N[: int(mean_curve_N.argmax()) + 1].sum(dtype=np.float64)
    least_shown = ERRORS_TO_ROUTE * float(np.sqrt(best_changed)) / n
    return Forecast(float(gain_B.mean()) / n, float(low), float(high), gain_B / n, mean_curve_N, least_shown)


def routable(passes: float | None, routed: float | None, each: float) -> float:
    """The share of the samples that a gate may route, by its limits.

    Args:
        passes: mean passes of a sample at most, the base's included.
        routed: share of the samples at most.
        each: passes that a routed sample takes beside the base's.
    """
    return min(1.0, 1.0 if passes is None else (passes - 1) / each, 1.0 if routed is None else routed)


def _cross_fitted(change_N: FloatArray, changed_N: FloatArray, half_N: BoolArray) -> tuple[float, float]:
    """Of routed samples the sum of ``change_N``, and of ``changed_N``; each half is routed up to where the other half's
    sum of changes is largest.
    """
    total, changed = 0.0, 0.0
    for judged_N in (half_N, ~half_N):
        chooses_N = np.cumsum(np.where(judged_N, 0, change_N), dtype=np.float32)
        last = int(chooses_N.argmax())
        if chooses_N[last] > 0:
            routed_N = judged_N[: last + 1]
            total += float(change_N[: last + 1] @ routed_N)
            changed += float(changed_N[: last + 1] @ routed_N)
    return total, changed
