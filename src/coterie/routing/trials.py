"""Rules tried on samples that took no part in fitting them: what is right, and at which cost. Arrays only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.errors import InputError
from coterie.measures.metrics import log_loss, probability_of
from coterie.partition import Partition
from coterie.routing.combine import BaseAnswer
from coterie.routing.evaluation import Outputs
from coterie.routing.fitting import Combination, fit_rules, in_chunks
from coterie.routing.gate import (
    SCORES,
    Budget,
    GainModel,
    cross_fitted_routing,
    features,
    other_folds,
    sweep_thresholds,
)
from coterie.routing.rule import Question, Rule
from coterie.vocabulary import ScoreName


@dataclass(frozen=True, eq=False)
class Trial:
    """A combination on samples that took no part in fitting it; fields of shape (N,), and (N, F) for features.

    ``base_correct_N``, ``routed_correct_N``: whether the sample's answer is right if it is not routed, and if it is;
    ``base_loss_N``, ``routed_loss_N``: log loss in nats; ``extra_N``: forward passes that routing adds;
    ``feature_NF``: what a gate may know of the sample.
    """

    base_correct_N: BoolArray
    base_loss_N: FloatArray
    routed_correct_N: BoolArray
    routed_loss_N: FloatArray
    extra_N: FloatArray
    feature_NF: FloatArray

    def scores(self, score: ScoreName, fold_N: IntArray) -> FloatArray:
        """A gate's score of each sample, of shape (N,)."""
        if score != "learned":
            return self.feature_NF[:, list(SCORES).index(score)]
        # Fitted on the other folds: a model that has seen the sample's own gain would look better than it is.
        learned_N = np.zeros(len(fold_N))
        for fold in np.unique(fold_N):
            held = fold_N == fold
            learned_N[held] = self.model(other_folds(held)).gain(self.feature_NF[held])
        return learned_N

    def model(self, rows: BoolArray | slice = slice(None)) -> GainModel:
        """The learned gate, fitted on some of the samples; default: all."""
        return GainModel.fit(self.feature_NF[rows], self.base_correct_N[rows], self.routed_correct_N[rows])


def try_all(
    combinations: Sequence[Combination], outputs: Outputs, partition: Partition, fold_N: IntArray
) -> dict[Combination, Trial]:
    """Answer each fold by rules that were fitted on the other folds."""
    parts: dict[Combination, list[Trial]] = {combination: [] for combination in combinations}
    row_N = []
    for fold in np.unique(fold_N):
        held = fold_N == fold
        rules = fit_rules(combinations, outputs.take(other_folds(held)), partition)
        for row_R in in_chunks(np.flatnonzero(held)):
            row_N.append(row_R)
            for combination, trial in _answer(rules, outputs.take(row_R), partition).items():
                parts[combination].append(trial)
    # The parts lie fold after fold; this puts them back in the order of the samples.
    order_N = np.argsort(np.concatenate(row_N))
    return {combination: _join(trials, order_N) for combination, trials in parts.items()}


def _join(trials: list[Trial], order_N: IntArray) -> Trial:
    """The parts of a trial as one, its rows in the order given."""
    columns = zip(*(vars(trial).values() for trial in trials), strict=True)
    return Trial(*(np.concatenate(parts)[order_N] for parts in columns))


def _answer(rules: Mapping[Combination, Rule], outputs: Outputs, partition: Partition) -> dict[Combination, Trial]:
    """All rules on some samples."""
    # What follows from the base alone is the same for all rules with one temperature of the base: worked out once.
    seen: dict[float, tuple[BaseAnswer, BoolArray, FloatArray, FloatArray]] = {}
    label_N, trials = outputs.label_N, {}
    for combination, rule in rules.items():
        if rule.temperatures.base not in seen:
            answer = rule.ask(outputs.base_NC, partition).answer
            seen[rule.temperatures.base] = answer, *_judge(answer.proba_NC, label_N), features(answer)
        answer, base_correct_N, base_loss_N, feature_NF = seen[rule.temperatures.base]
        question = Question(rule, answer)
        # Every sample is routed here; the threshold only decides later whose routed answer counts.
        asked_NS = question.asked(np.ones(len(label_N), dtype=bool))
        routed = _judge(question.combine(outputs.packed_NM, asked_NS), label_N)
        extra_N = outputs.pass_cost * question.extra_passes(asked_NS)
        trials[combination] = Trial(base_correct_N, base_loss_N, *routed, extra_N, feature_NF)
    return trials


def _judge(proba_NC: FloatArray, label_N: IntArray) -> tuple[BoolArray, FloatArray]:
    """Whether each sample's likeliest class is the true one, and its log loss."""
    return proba_NC.argmax(axis=1) == label_N, log_loss(probability_of(proba_NC, label_N))


@dataclass(frozen=True)
class Candidate:
    """A row of the table of what was tried. Accuracy, and gain over the base, are cross-fitted shares of 1."""

    combination: Combination
    score: ScoreName
    accuracy: float
    gain: float
    passes: float
    routed: float


@dataclass(frozen=True, eq=False)
class JudgedCandidate:
    """A candidate with its row of the table and its threshold.

    ``correct_N``: whether each sample is answered rightly, its fold being judged by the others; ``added_loss_N``: by
    how much its log loss is above that of the calibrated base.
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
        trial: Trial,
        base_loss_N: FloatArray,
        budget: Budget,
        fold_N: IntArray,
    ) -> JudgedCandidate | None:
        """Choose a threshold for the budget; None where no threshold meets it.

        Args:
            combination: how answers are combined.
            score: of the gate.
            trial: the combination on all samples.
            base_loss_N: log loss of the calibrated base.
            budget: what the threshold is chosen for.
            fold_N: the fold of each sample.
        """
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

    def unrouted(self, base_correct_N: BoolArray) -> JudgedCandidate:
        """The same candidate with a threshold that no sample reaches: the base answers alone."""
        accuracy = float(base_correct_N.mean())
        row = replace(self.row, accuracy=accuracy, gain=0.0, passes=1.0, routed=0.0)
        return replace(self, row=row, threshold=float("inf"), correct_N=base_correct_N)
