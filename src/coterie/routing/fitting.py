"""Labelled logits -> the numbers of a rule: temperatures and weights. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures, fit_temperatures, temperature
from coterie.routing.combine import Combiner, safe_log
from coterie.routing.evaluation import Outputs
from coterie.routing.gate import Gate
from coterie.routing.rule import Question, Rule
from coterie.vocabulary import CombinerName, Mixture

# These combiners give a specialist all the weight, or none.
UNWEIGHTED: tuple[CombinerName, ...] = ("hard", "compose")
# Six weights are enough for a parabola, and each costs one pass over the samples.
TRIED_W = np.array([0, 0.2, 0.4, 0.6, 0.8, 1.0])
# A weight is a multiple of 1/20: six tried weights cannot tell finer ones apart.
WEIGHT_STEPS = 20
# Temperatures and weights are a few numbers: more samples than this hardly move them, and cost time.
FIT_SAMPLES = 10_000
# A specialist counts as informative where its log loss is this many standard errors below that of a guess.
ERRORS_TO_COUNT = 2
# The curve of all clusters counts as this many samples in the curve of one. A cluster with fewer samples mostly
# follows the others; one with many has its own weight.
SHRINKAGE_SAMPLES = 1_000
# Rows that are combined at a time, so that memory does not grow with the number of samples.
CHUNK = 8192


@dataclass(frozen=True)
class Combination:
    """How answers are combined, before weights and temperatures are known.

    ``by_cluster``: whether each cluster has a weight of its own.
    """

    combiner: CombinerName
    top: int = 1
    by_cluster: bool = False

    @property
    def title(self) -> str:
        """The name of the combination in tables."""
        weights = ", weights by cluster" if self.by_cluster else ""
        return f"{self.combiner}{weights}" + (f", top {self.top}" if self.top > 1 else "")


PAPER = Combination("hard")


def fit_rules(combinations: Sequence[Combination], outputs: Outputs, partition: Partition) -> dict[Combination, Rule]:
    """The rule of each combination, with a gate that routes every sample.

    The paper's rule takes logits as they are and trusts every specialist. Other rules have temperatures and weights,
    and never ask a specialist that is no better than a guess.
    """
    some = subsample(outputs)
    temperatures = fit_temperatures(some.base_NC, some.packed_NM, some.label_N, partition)
    informative_S = informative_specialists(temperatures, some, partition)
    # Measuring a curve combines all samples six times, so combinations with the same mixture share one.
    curves: dict[Mixture, WeightCurve] = {}
    rules = {}
    for combination in combinations:
        if combination.combiner == "hard":
            rules[combination] = Rule(Gate(-np.inf))
            continue
        plain = Combiner.named(combination.combiner, top=combination.top)
        if plain.mixture not in curves:
            curves[plain.mixture] = WeightCurve.measure(plain.mixture, temperatures, some, partition)
        weight_S = np.where(informative_S, curves[plain.mixture].choose(combination), 0.0)
        rules[combination] = Rule(Gate(-np.inf), replace(plain, weight_S=tuple(weight_S.tolist())), temperatures)
    return rules


def informative_specialists(temperatures: Temperatures, outputs: Outputs, partition: Partition) -> BoolArray:
    """Whether each specialist is better than a guess on samples of its own classes, of shape (S,).

    A specialist without at least two samples, or with one class only, counts as informative.
    """
    informative_S = np.ones(partition.n_clusters, dtype=bool)
    for cluster, heat in enumerate(np.broadcast_to(temperatures.specialist_S, partition.n_clusters)):
        rows, local = partition.own_rows(cluster, outputs.label_N)
        log_RK = log_softmax(outputs.packed_NM[rows, partition.columns(cluster)] / heat, axis=1)
        # A guess gives each of the K classes 1/K, so this is by how much the specialist's log loss is below its.
        gained_R = np.take_along_axis(log_RK, local[:, None], axis=1)[:, 0] + np.log(log_RK.shape[1])
        # The weight curve does not show this: calibration makes a specialist that answers at random nearly uniform,
        # so that it does no harm in a mixture, and would be run for nothing.
        if min(log_RK.shape) > 1:
            informative_S[cluster] = gained_R.mean() > ERRORS_TO_COUNT * gained_R.std() / np.sqrt(len(rows))
    return informative_S


def calibrate_mixture(rule: Rule, outputs: Outputs, partition: Partition) -> Rule:
    """The rule with the temperature of its combiner fitted on the samples that ask a cluster.

    The paper's combiner has no temperature.
    """
    if not rule.combiner.keeps_rest:
        return rule
    some = subsample(outputs)
    question = rule.ask(some.base_NC, partition)
    asked_NS = question.asked(question.routed_N)
    # The other rows keep the base's probabilities, on which the combiner's temperature does not act.
    row_R = np.flatnonzero(asked_NS.any(axis=1))
    log_RC = safe_log(question.combine(some.packed_NM, asked_NS)[row_R])
    combiner = replace(rule.combiner, temperature=temperature(log_RC, some.label_N[row_R]))
    return replace(rule, combiner=combiner)


@dataclass(frozen=True, eq=False)
class WeightCurve:
    """Counts of samples by likeliest cluster, whose specialist is asked, at each tried weight: shape (S, W).

    ``right_SW``: answered rightly; ``changed_SW``: right where weight 0 is wrong, or wrong where it is right.
    ``n_partitions``: of several partitions side by side, a sample counts once in each.
    """

    right_SW: IntArray
    changed_SW: IntArray
    n_partitions: int

    @classmethod
    def measure(cls, mixture: Mixture, temperatures: Temperatures, outputs: Outputs, partition: Partition) -> Self:
        """Combine all samples at every tried weight, and count."""
        right_SW, changed_SW = np.zeros((2, partition.n_clusters, len(TRIED_W)), dtype=np.int64)
        for row_R in in_chunks(np.arange(len(outputs.label_N))):
            some = outputs.take(row_R)
            answer = Rule(Gate(-np.inf), temperatures=temperatures).ask(some.base_NC, partition).answer
            likely_NS = answer.most_likely(1)
            before_N = answer.proba_NC.argmax(axis=1) == some.label_N
            # All clusters get the same weight at once: where one cluster is asked, the weights of the others do not
            # act on the sample, so one pass serves every cluster's curve.
            for place, weight in enumerate(TRIED_W.tolist()):
                question = Question(Rule(Gate(-np.inf), Combiner(mixture, (weight,)), temperatures), answer)
                asked_NS = question.asked(np.ones(len(row_R), dtype=bool))
                right_N = question.combine(some.packed_NM, asked_NS).argmax(axis=1) == some.label_N
                for counts_SW, rows in ((right_SW, right_N), (changed_SW, right_N != before_N)):
                    counts_SW[:, place] += likely_NS[rows].sum(axis=0)
        return cls(right_SW, changed_SW, len(partition.layers))

    def choose(self, combination: Combination) -> FloatArray:
        """The weight of each cluster, of shape (S,).

        A cluster's own curve is drawn towards the curve of all. A specialist that does harm at its weight, by more than
        a standard error, gets weight 0: the base answers for its cluster.
        """
        n_clusters, common_W = len(self.right_SW), self.right_SW.sum(axis=0) / self.n_partitions
        if combination.combiner in UNWEIGHTED:
            weight_S = np.ones(n_clusters)
        elif combination.by_cluster:
            # Scaled to SHRINKAGE_SAMPLES right answers, whatever the number of samples that the common curve counts.
            shared_W = SHRINKAGE_SAMPLES * common_W / max(common_W.max(), 1)
            weight_S = np.array([_best_weight(right_W + shared_W) for right_W in self.right_SW])
        else:
            weight_S = np.full(n_clusters, _best_weight(common_W))
        cluster_S, nearest_S = np.arange(n_clusters), np.abs(TRIED_W - weight_S[:, None]).argmin(axis=1)
        gain_S = self.right_SW[cluster_S, nearest_S] - self.right_SW[:, 0]
        # Each changed sample is a step of +1 or -1, so the root of their number is the standard error of the gain.
        harmful_S = gain_S < -np.sqrt(self.changed_SW[cluster_S, nearest_S])
        return np.where(harmful_S, 0.0, weight_S)


def _best_weight(right_W: NDArray[Any]) -> float:
    """The weight from 0 to 1 at which a parabola through the counts is highest."""
    # Neighbouring weights differ by a handful of samples: the highest count itself is mostly chance.
    weight_V = np.arange(WEIGHT_STEPS + 1) / WEIGHT_STEPS
    return float(weight_V[np.polyval(np.polyfit(TRIED_W, right_W, 2), weight_V).argmax()])


def subsample(outputs: Outputs) -> Outputs:
    """At most FIT_SAMPLES of the samples, drawn at random with a fixed seed."""
    n = len(outputs.label_N)
    return outputs if n <= FIT_SAMPLES else outputs.take(np.random.default_rng(0).permutation(n)[:FIT_SAMPLES])


def in_chunks(row_N: IntArray) -> list[IntArray]:
    """Rows in nearly equal parts of at most CHUNK."""
    return np.array_split(row_N, -(-len(row_N) // CHUNK))
