"""Labelled validation logits -> the rule of an ensemble, without training. Arrays only.

Every candidate is judged by cross-fitting: temperatures, weights, learned gate and threshold come from four fifths of
the samples and are tried on the fifth. So a rule with more to choose has no advantage but the one that it earns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.config import GateSettings
from coterie.errors import InputError
from coterie.measures.metrics import log_loss, probability_of
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures, fit_temperatures, temperature
from coterie.routing.combine import BaseAnswer, Combiner, safe_log
from coterie.routing.evaluation import Outputs
from coterie.routing.gate import (
    SCORES,
    Budget,
    GainModel,
    Gate,
    cross_fitted_routing,
    features,
    make_folds,
    other_folds,
    risk_bound,
    sweep_thresholds,
)
from coterie.routing.rule import Question, Rule
from coterie.vocabulary import CombinerName, Mixture, ScoreName

COMBINERS: tuple[CombinerName, ...] = get_args(CombinerName)
GATES: tuple[ScoreName, ...] = get_args(ScoreName)
TOPS = (1, 2)
# The specialist has all the weight, or none.
UNWEIGHTED = ("hard", "compose")
# Weights that are tried; a parabola through what they give says which is best.
TRIED_W = np.array([0, 0.2, 0.4, 0.6, 0.8, 1.0])
WEIGHT_STEPS = 20
# Temperatures and weights are a few numbers: more samples than this do not change them.
FIT_SAMPLES = 10_000
# A specialist has something to say where its log loss is so many standard errors below that of a guess.
ERRORS_TO_COUNT = 2
# A cluster's own weight is worth as many samples of the common curve as it has to speak against.
SHRINKAGE_SAMPLES = 1_000
# The choice stands where it beats the paper's rule by so many standard errors: chance alone does it once in ten times.
ERRORS_TO_STAND = 1.28
# Or where it is, by so many errors, less than this share of samples behind it, and its probabilities are better.
AS_GOOD = 0.005
# Rows that are worked on at a time, so that memory does not grow with the samples.
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
        """For tables."""
        weights = ", weights by cluster" if self.by_cluster else ""
        return f"{self.combiner}{weights}" + (f", top {self.top}" if self.top > 1 else "")


PAPER = Combination("hard")


@dataclass(frozen=True)
class TuningRequest:
    """What may be chosen, and for what: the candidates, and the budget that the threshold is chosen for.

    Raises:
        InputError: there is no candidate.
    """

    combiners: tuple[CombinerName, ...] = COMBINERS
    scores: tuple[ScoreName, ...] = GATES
    tops: tuple[int, ...] = TOPS
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if not (self.combiners and self.scores and self.tops):
            raise InputError("nothing to choose from: name a combiner, a gate's score and a number of clusters")

    @classmethod
    def of(cls, settings: GateSettings) -> TuningRequest:
        """What the settings leave open."""
        return cls(
            COMBINERS if settings.combiner == "auto" else (settings.combiner,),
            GATES if settings.score == "auto" else (settings.score,),
            TOPS if settings.top is None else (settings.top,),
            Budget(settings.passes, settings.routed, settings.risk, settings.threshold),
        )

    def combinations(self, partition: Partition) -> list[Combination]:
        """The candidates, simple ones first. The paper's rule asks one cluster and knows no weights."""
        tops = sorted({min(top, partition.n_clusters) for top in self.tops})
        found = []
        for name in self.combiners:
            for top in tops[:1] if name == "hard" else tops:
                found += [Combination(name, top, own) for own in ((False,) if name in UNWEIGHTED else (False, True))]
        return found


@dataclass(frozen=True)
class Candidate:
    """A row of the table of what was tried. Accuracy, and gain over the base, are cross-fitted, shares of 1."""

    combination: Combination
    score: ScoreName
    accuracy: float
    gain: float
    passes: float
    routed: float


@dataclass(frozen=True, eq=False)
class Tuning:
    """A rule, the table that it was chosen from, and what must be said of the choice.

    ``candidates``: best first, none in runs of early versions; ``chosen``: the rule's row, None where only the table
    was kept; ``accuracy``: cross-fitted, of the choice among the candidates too, NaN in runs of early versions;
    ``note``: whether validation bears the choice out.
    """

    rule: Rule
    chosen: Candidate | None
    candidates: tuple[Candidate, ...]
    accuracy: float
    note: str
    budget: Budget


def tune(outputs: Outputs, partition: Partition, request: TuningRequest, seed: int = 0) -> Tuning:
    """Choose combiner, weights, temperatures, gate and threshold from logits on validation samples.

    The most accurate candidate within the budget is taken, by cross-fitting; without a limit to the cost, the cheapest
    that is less than a standard error below the best; where a risk is to be bounded, the cheapest that bounds it. One
    whose log loss is above the base's gives way to one that is not and is less than a standard error less accurate.
    Where the paper's rule is among them and validation is too small to tell the choice from it (the choice itself being
    cross-fitted), the paper's rule stands.

    Args:
        outputs: of base and specialists on samples that trained neither.
        partition: the clusters.
        request: what may be chosen.
        seed: of the folds.

    Raises:
        InputError: no candidate meets the budget.
    """
    fold_N = make_folds(len(outputs.label_N), seed)
    combinations = request.combinations(partition)
    trials = _try_all(combinations, outputs, partition, fold_N)
    # The paper's rule knows no temperature; of the others, all have the same for the base.
    base_loss_N = min((trial.base_loss_N for trial in trials.values()), key=lambda loss_N: float(loss_N.mean()))
    judged = [
        one
        for combination in combinations
        for score in request.scores
        if (one := _Judged.of(combination, score, trials[combination], base_loss_N, request.budget, fold_N))
    ]
    if not judged:
        error = min(1 - float(trial.routed_correct_N.mean()) for trial in trials.values())
        lowest = float(risk_bound(np.array(error), len(fold_N)))
        raise InputError(
            f"risk = {request.budget.risk}: no rule bounds the error rate by it within the budget; the lowest bound, "
            f"with all samples routed, is {lowest:.4f}"
        )
    best = _best(judged, request.budget)
    procedure_N = _cross_fitted_choice(judged, fold_N, request.budget)
    chosen, note = _settle(best, judged, procedure_N, request.budget)
    correct_N = procedure_N if chosen is best else chosen.correct_N
    rule = _fit_rules([chosen.row.combination], outputs, partition)[chosen.row.combination]
    trial = trials[chosen.row.combination]
    model = trial.model() if chosen.row.score == "learned" else None
    rule = _calibrate(replace(rule, gate=Gate(chosen.threshold, chosen.row.score, model)), outputs, partition)
    rows = tuple(one.row for one in sorted(judged, key=lambda one: -one.row.accuracy))
    return Tuning(rule, chosen.row, rows, float(correct_N.mean()), note, request.budget)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A combination on samples that took no part in fitting it: whether base and ensemble are right, their log loss,
    what routing costs, and what a gate may know.
    """

    base_correct_N: BoolArray
    base_loss_N: FloatArray
    routed_correct_N: BoolArray
    routed_loss_N: FloatArray
    extra_N: FloatArray
    feature_NF: FloatArray

    def scores(self, score: ScoreName, fold_N: IntArray) -> FloatArray:
        """The score of each sample; a learned one comes from the other folds."""
        if score != "learned":
            return self.feature_NF[:, list(SCORES).index(score)]
        learned_N = np.zeros(len(fold_N))
        for fold in np.unique(fold_N):
            held = fold_N == fold
            learned_N[held] = self.model(other_folds(held)).gain(self.feature_NF[held])
        return learned_N

    def model(self, rows: BoolArray | slice = slice(None)) -> GainModel:
        """The learned gate of some samples."""
        return GainModel.fit(self.feature_NF[rows], self.base_correct_N[rows], self.routed_correct_N[rows])


@dataclass(frozen=True, eq=False)
class _Judged:
    """A candidate's row of the table, its threshold, and, when each fold is judged by the others, who is right, and how
    much the log loss is above that of the calibrated base.
    """

    row: Candidate
    threshold: float
    correct_N: BoolArray
    added_loss_N: FloatArray

    @classmethod
    def of(
        cls,
        combination: Combination,
        score: ScoreName,
        trial: _Trial,
        base_loss_N: FloatArray,
        budget: Budget,
        fold_N: IntArray,
    ) -> _Judged | None:
        """None where no threshold meets the budget."""
        score_N = trial.scores(score, fold_N)
        answers = (score_N, trial.base_correct_N, trial.routed_correct_N, trial.extra_N)
        curve = sweep_thresholds(*answers)
        try:
            threshold = float(curve.threshold_T[curve.choose(budget)])
        except InputError:
            return None
        if budget.risk is None and budget.threshold is None:
            routed_N = cross_fitted_routing(*answers, budget, fold_N)
        else:  # a bound holds on the samples that it was read from; a given threshold was not read from any
            threshold = threshold if budget.threshold is None else budget.threshold
            routed_N = score_N >= threshold
        correct_N = np.where(routed_N, trial.routed_correct_N, trial.base_correct_N)
        row = Candidate(
            combination,
            score,
            accuracy=float(correct_N.mean()),
            gain=float(correct_N.mean() - trial.base_correct_N.mean()),
            passes=1 + float((trial.extra_N * routed_N).mean()),
            routed=float(routed_N.mean()),
        )
        loss_N = np.where(routed_N, trial.routed_loss_N, trial.base_loss_N)
        return cls(row, threshold, correct_N, loss_N - base_loss_N)


def _best(judged: list[_Judged], budget: Budget, rows: BoolArray | slice = slice(None)) -> _Judged:
    """The most accurate by some of the samples. Without a limit to the cost, the cheapest of those that are less than a
    standard error of the paired difference away from it (the rule of Breiman et al. 1984). In both cases one whose log
    loss is not above the base's, if one is as close. Of equals, the first.
    """
    if budget.risk is not None:  # all of them bound it
        return min(judged, key=lambda one: one.row.passes)
    most = max(judged, key=lambda one: float(one.correct_N[rows].mean()))
    close = []
    for one in judged:
        lost, error = _paired(most.correct_N[rows], one.correct_N[rows])
        if lost <= error:
            close.append(one)
    close = [one for one in close if one.added_loss_N[rows].mean() <= 0] or close
    if budget.passes is not None or budget.routed is not None:
        return max(close, key=lambda one: float(one.correct_N[rows].mean()))
    return min(close, key=lambda one: (one.row.passes, -one.row.accuracy))


def _paired(first_N: BoolArray, second_N: BoolArray) -> tuple[float, float]:
    """Mean and standard error of the difference on the same samples."""
    difference_N = first_N.astype(np.float64) - second_N
    return float(difference_N.mean()), float(difference_N.std() / np.sqrt(len(difference_N)))


def _cross_fitted_choice(judged: list[_Judged], fold_N: IntArray, budget: Budget) -> BoolArray:
    """Who is right when each fold is answered by the candidate that the other folds choose, of shape (N,)."""
    correct_N = np.zeros(len(fold_N), dtype=bool)
    for fold in np.unique(fold_N):
        held = fold_N == fold
        correct_N[held] = _best(judged, budget, other_folds(held)).correct_N[held]
    return correct_N


def _settle(best: _Judged, judged: list[_Judged], procedure_N: BoolArray, budget: Budget) -> tuple[_Judged, str]:
    """The best candidate; or the paper's rule, where it is one and the samples cannot tell them apart. With a note."""
    paper = next((one for one in judged if (one.row.combination, one.row.score) == (PAPER, "entropy")), None)
    if paper is None or len(judged) == 1 or budget.risk is not None:
        return best, ""
    if best is paper:
        return best, "The paper's rule is the best of the candidates."
    difference, error = _paired(procedure_N, paper.correct_N)
    seen = (
        f"{100 * difference:+.2f} points (standard error {100 * error:.2f}) on {len(procedure_N):,} validation samples"
    )
    if difference > ERRORS_TO_STAND * error:
        return best, f"Against the paper's rule, the choice among the candidates is cross-fitted at {seen}."
    # What happens to none of the samples may still happen to this share of all, at the same odds of one in ten.
    unseen = np.log(10) / len(procedure_N)
    behind = max(ERRORS_TO_STAND * error, unseen) - min(difference, 0)
    if behind < AS_GOOD and best.added_loss_N.mean() < paper.added_loss_N.mean():
        return best, (
            f"The choice among the candidates is as accurate as the paper's rule to half a point, and its "
            f"probabilities are better. Cross-fitted, its lead is {seen}."
        )
    return paper, f"The choice among the candidates is noise, so the paper's rule stands: {seen}."


def _try_all(
    combinations: Sequence[Combination], outputs: Outputs, partition: Partition, fold_N: IntArray
) -> dict[Combination, _Trial]:
    """Each fold is answered by rules that were fitted on the others."""
    parts: dict[Combination, list[_Trial]] = {combination: [] for combination in combinations}
    row_N = []
    for fold in np.unique(fold_N):
        held = fold_N == fold
        rules = _fit_rules(combinations, outputs.take(other_folds(held)), partition)
        for row_R in _chunks(np.flatnonzero(held)):
            row_N.append(row_R)
            for combination, trial in _answer(rules, outputs.take(row_R), partition).items():
                parts[combination].append(trial)
    order_N = np.argsort(np.concatenate(row_N))
    return {combination: _join(trials, order_N) for combination, trials in parts.items()}


def _chunks(row_N: IntArray) -> list[IntArray]:
    return np.array_split(row_N, -(-len(row_N) // CHUNK))


def _join(trials: list[_Trial], order_N: IntArray) -> _Trial:
    columns = zip(*(vars(trial).values() for trial in trials), strict=True)
    return _Trial(*(np.concatenate(parts)[order_N] for parts in columns))


def _answer(rules: Mapping[Combination, Rule], outputs: Outputs, partition: Partition) -> dict[Combination, _Trial]:
    """All rules on some samples. What follows from the base alone is worked out once for each temperature."""
    seen: dict[float, tuple[BaseAnswer, BoolArray, FloatArray, FloatArray]] = {}
    label_N, trials = outputs.label_N, {}
    for combination, rule in rules.items():
        if rule.temperatures.base not in seen:
            answer = rule.ask(outputs.base_NC, partition).answer
            seen[rule.temperatures.base] = answer, *_judge(answer.proba_NC, label_N), features(answer)
        answer, base_correct_N, base_loss_N, feature_NF = seen[rule.temperatures.base]
        question = Question(rule, answer)
        asked_NS = question.asked(np.ones(len(label_N), dtype=bool))
        routed = _judge(question.combine(outputs.packed_NM, asked_NS), label_N)
        extra_N = outputs.pass_cost * question.extra_passes(asked_NS)
        trials[combination] = _Trial(base_correct_N, base_loss_N, *routed, extra_N, feature_NF)
    return trials


def _judge(proba_NC: FloatArray, label_N: IntArray) -> tuple[BoolArray, FloatArray]:
    return proba_NC.argmax(axis=1) == label_N, log_loss(probability_of(proba_NC, label_N))


def _fit_rules(combinations: Sequence[Combination], outputs: Outputs, partition: Partition) -> dict[Combination, Rule]:
    """Temperatures and weights from labelled samples; gates that route all. The paper's rule takes logits as they are,
    and trusts every specialist; the others ask none whose answers are no better than a guess.
    """
    some = _enough(outputs)
    temperatures = fit_temperatures(some.base_NC, some.packed_NM, some.label_N, partition)
    telling_S = _telling(temperatures, some, partition)
    curves: dict[Mixture, _WeightCurve] = {}
    rules = {}
    for combination in combinations:
        if combination.combiner == "hard":
            rules[combination] = Rule(Gate(-np.inf))
            continue
        plain = Combiner.named(combination.combiner, top=combination.top)
        if plain.mixture not in curves:
            curves[plain.mixture] = _WeightCurve.measure(plain.mixture, temperatures, some, partition)
        weight_S = np.where(telling_S, curves[plain.mixture].choose(combination), 0.0)
        rules[combination] = Rule(Gate(-np.inf), replace(plain, weight_S=tuple(weight_S.tolist())), temperatures)
    return rules


def _telling(temperatures: Temperatures, outputs: Outputs, partition: Partition) -> BoolArray:
    """Whether a specialist's answers on samples of its own classes are better than a guess. Shape (S,). At a high
    temperature one that answers at random does no harm in a mixture, and would be asked for nothing. Of fewer than two
    samples, none can tell.
    """
    telling_S = np.ones(partition.n_clusters, dtype=bool)
    for cluster, heat in enumerate(np.broadcast_to(temperatures.specialist_S, partition.n_clusters)):
        rows, local = partition.own_rows(cluster, outputs.label_N)
        log_RK = log_softmax(outputs.packed_NM[rows, partition.columns(cluster)] / heat, axis=1)
        gained_R = np.take_along_axis(log_RK, local[:, None], axis=1)[:, 0] + np.log(log_RK.shape[1])
        if min(log_RK.shape) > 1:
            telling_S[cluster] = gained_R.mean() > ERRORS_TO_COUNT * gained_R.std() / np.sqrt(len(rows))
    return telling_S


def _enough(outputs: Outputs) -> Outputs:
    n = len(outputs.label_N)
    return outputs if n <= FIT_SAMPLES else outputs.take(np.random.default_rng(0).permutation(n)[:FIT_SAMPLES])


def _calibrate(rule: Rule, outputs: Outputs, partition: Partition) -> Rule:
    """With the combiner's temperature under which labels of the samples that ask somebody are most likely. The paper's
    combiner knows none.
    """
    if not rule.combiner.keeps_rest:
        return rule
    some = _enough(outputs)
    question = rule.ask(some.base_NC, partition)
    asked_NS = question.asked(question.routed_N)
    row_R = np.flatnonzero(asked_NS.any(axis=1))
    log_RC = safe_log(question.combine(some.packed_NM, asked_NS)[row_R])
    combiner = replace(rule.combiner, temperature=temperature(log_RC, some.label_N[row_R]))
    return replace(rule, combiner=combiner)


@dataclass(frozen=True, eq=False)
class _WeightCurve:
    """Counts of samples by their most likely cluster, whose specialist is asked, at each tried weight: shape (S, W).
    Of several partitions side by side, a sample counts in each.

    ``right_SW``: answered rightly; ``changed_SW``: right where weight 0 is wrong, or wrong where it is right.
    """

    right_SW: IntArray
    changed_SW: IntArray
    n_partitions: int

    @classmethod
    def measure(cls, mixture: Mixture, temperatures: Temperatures, outputs: Outputs, partition: Partition) -> Self:
        """By combining all samples at every tried weight."""
        right_SW, changed_SW = np.zeros((2, partition.n_clusters, len(TRIED_W)), dtype=np.int64)
        for row_R in _chunks(np.arange(len(outputs.label_N))):
            some = outputs.take(row_R)
            answer = Rule(Gate(-np.inf), temperatures=temperatures).ask(some.base_NC, partition).answer
            likely_NS = answer.most_likely(1)
            before_N = answer.proba_NC.argmax(axis=1) == some.label_N
            for place, weight in enumerate(TRIED_W.tolist()):
                question = Question(Rule(Gate(-np.inf), Combiner(mixture, (weight,)), temperatures), answer)
                asked_NS = question.asked(np.ones(len(row_R), dtype=bool))
                right_N = question.combine(some.packed_NM, asked_NS).argmax(axis=1) == some.label_N
                for counts_SW, rows in ((right_SW, right_N), (changed_SW, right_N != before_N)):
                    counts_SW[:, place] += likely_NS[rows].sum(axis=0)
        return cls(right_SW, changed_SW, len(partition.layers))

    def choose(self, combination: Combination) -> FloatArray:
        """The weight of each cluster, of shape (S,).

        A parabola smooths the counts: neighbouring weights differ by a handful of samples. A cluster's own curve is
        drawn towards the common one. A specialist that does harm at its weight, by more than a standard error, gets
        none: the base answers for its cluster.
        """
        n_clusters, common_W = len(self.right_SW), self.right_SW.sum(axis=0) / self.n_partitions
        if combination.combiner in UNWEIGHTED:
            weight_S = np.ones(n_clusters)
        elif combination.by_cluster:
            shared_W = SHRINKAGE_SAMPLES * common_W / max(common_W.max(), 1)
            weight_S = np.array([_best_weight(right_W + shared_W) for right_W in self.right_SW])
        else:
            weight_S = np.full(n_clusters, _best_weight(common_W))
        cluster_S, nearest_S = np.arange(n_clusters), np.abs(TRIED_W - weight_S[:, None]).argmin(axis=1)
        gain_S = self.right_SW[cluster_S, nearest_S] - self.right_SW[:, 0]
        harmful_S = gain_S < -np.sqrt(self.changed_SW[cluster_S, nearest_S])
        return np.where(harmful_S, 0.0, weight_S)


def _best_weight(right_W: NDArray[Any]) -> float:
    weight_V = np.arange(WEIGHT_STEPS + 1) / WEIGHT_STEPS
    return float(weight_V[np.polyval(np.polyfit(TRIED_W, right_W, 2), weight_V).argmax()])
