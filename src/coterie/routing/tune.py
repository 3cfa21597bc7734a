"""Choosing the rule of an ensemble from labelled validation logits, without training. Arrays only.

Every candidate is judged by cross-fitting: temperatures, weights, learned gate and threshold come from four fifths of
the samples and are tried on the fifth. So a rule with more to choose has no advantage but the one that it earns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.errors import InputError
from coterie.partition import Partition
from coterie.routing.evaluation import Outputs
from coterie.routing.fitting import PAPER, UNWEIGHTED, Combination, calibrate_mixture, fit_rules
from coterie.routing.gate import Budget, Gate, make_folds, other_folds, risk_bound
from coterie.routing.rule import Rule
from coterie.routing.trials import Candidate, JudgedCandidate, Trial, try_all
from coterie.vocabulary import CombinerName, ScoreName

COMBINERS: tuple[CombinerName, ...] = get_args(CombinerName)
GATES: tuple[ScoreName, ...] = get_args(ScoreName)
# Each further cluster costs a pass per routed sample: more than two are tried on request only.
TOPS = (1, 2)
# Of several clusters, what is known to be good elsewhere (docs/what-helps.md) stands where validation cannot tell: the
# first that is a candidate.
PAPERS = (PAPER, "entropy")
STANDING: Mapping[tuple[Combination, str], str] = {
    (Combination("blend"), "margin"): "the plain blend",
    PAPERS: "the paper's rule",
}
# The choice replaces it where it is this many standard errors better: under no difference, chance gives that once in
# ten times.
ERRORS_TO_STAND = 1.28
# Or where it is, by so many errors, less than this share of samples behind, and has better probabilities.
AS_GOOD = 0.005
# And it routes only where it gains as clearly over the base, or where its log loss is far clearer below the base's: few
# samples change their class, and all change their probabilities (benchmarks/gains/chance.md).
ERRORS_TO_ROUTE = ERRORS_TO_STAND
LOSS_ERRORS_TO_ROUTE = 3.0


@dataclass(frozen=True)
class TuningRequest:
    """The candidates of a tuning, and the budget that the threshold is chosen for.

    ``tops``: numbers of clusters that a sample may ask.

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

    def combinations(self, partition: Partition) -> list[Combination]:
        """The combinations to try, simple ones first: of equals, the first is chosen."""
        tops = sorted({min(top, partition.n_clusters) for top in self.tops})
        combiners = self.combiners
        by_cluster: tuple[bool, ...] = (False, True)
        if partition.n_clusters == 1:
            # A specialist of all classes is a second opinion: nothing says that it knows better than the base.
            combiners = tuple(name for name in combiners if name != "hard") or combiners
            by_cluster = (False,)
        found = []
        for name in combiners:
            # The paper's combiner asks one cluster.
            for top in tops[:1] if name == "hard" else tops:
                found += [Combination(name, top, own) for own in ((False,) if name in UNWEIGHTED else by_cluster)]
        return found


@dataclass(frozen=True, eq=False)
class Tuning:
    """A rule, the table that it was chosen from, and how sure the choice is.

    ``candidates``: best first, none in runs of early versions; ``chosen``: the rule's row, None where only the table
    was kept; ``accuracy``: cross-fitted, the choice among the candidates included, NaN in runs of early versions;
    ``note``: whether validation supports the choice, in a sentence.
    """

    rule: Rule
    chosen: Candidate | None
    candidates: tuple[Candidate, ...]
    accuracy: float
    note: str
    budget: Budget


def tune(outputs: Outputs, partition: Partition, request: TuningRequest, seed: int = 0) -> Tuning:
    """Choose combiner, weights, temperatures, gate and threshold from logits on validation samples.

    The most accurate candidate within the budget is chosen, by cross-fitting. Without a limit to the cost, it is the
    cheapest candidate that is less than a standard error below the best; where a risk is bounded, the cheapest that
    bounds it. A candidate whose log loss is above the base's gives way to one that is as close and whose loss is not.
    Where the paper's rule is a candidate, a blend with one weight and the gate ``margin``, or else that rule, is kept
    if validation is too small to tell the choice from it; for this the choice itself is cross-fitted. Nothing is routed
    where the gain over the base is within 1.28 standard errors, and its log loss is not lower than the base's by 3.

    Args:
        outputs: of base and specialists on samples that trained neither.
        partition: the clusters.
        request: what may be chosen.
        seed: of the folds.

    Raises:
        InputError: no candidate meets the budget.
    """
    fold_N = make_folds(len(outputs.label_N), seed)
    trials = try_all(request.combinations(partition), outputs, partition, fold_N)
    judged = _judge_all(trials, request, fold_N)
    best = _best(judged, request.budget)
    procedure_N = _cross_fitted_choice(judged, fold_N, request.budget)
    chosen, note = _settle(best, judged, procedure_N, request.budget)
    # The accuracy of the best of many is too high by the luck of the choice, so that of the procedure is reported; what
    # stands was not chosen for its accuracy.
    correct_N = procedure_N if chosen is best else chosen.correct_N
    if len(judged) > 1 and request.budget.is_open:
        base_correct_N = trials[chosen.row.combination].base_correct_N
        gained, error = _paired(correct_N, base_correct_N)
        added, loss_error = _mean_and_error(chosen.added_loss_N)
        clearly_lower = gained >= -ERRORS_TO_ROUTE * error and added < -LOSS_ERRORS_TO_ROUTE * loss_error
        if gained <= ERRORS_TO_ROUTE * error and not clearly_lower:
            chosen, correct_N = chosen.unrouted(base_correct_N), base_correct_N
            note = (
                f"No sample is routed: the choice among the candidates gains {100 * gained:+.2f} points (standard "
                f"error {100 * error:.2f}) on {len(fold_N):,} validation samples, which may be chance."
            )
    combination, score = chosen.row.combination, chosen.row.score
    # Cross-fitting has done its work: the rule that is kept is fitted on all samples.
    rule = fit_rules([combination], outputs, partition)[combination]
    model = trials[combination].model() if score == "learned" else None
    rule = calibrate_mixture(replace(rule, gate=Gate(chosen.threshold, score, model)), outputs, partition)
    rows = tuple(one.row for one in sorted(judged, key=lambda one: -one.row.accuracy))
    return Tuning(rule, chosen.row, rows, float(correct_N.mean()), note, request.budget)


def _judge_all(trials: dict[Combination, Trial], request: TuningRequest, fold_N: IntArray) -> list[JudgedCandidate]:
    """Every combination with every gate that meets the budget.

    Raises:
        InputError: none does.
    """
    # The paper's rule has no temperature, and all other rules have the same one for the base: the smaller loss is that
    # of the calibrated base.
    base_loss_N = min((trial.base_loss_N for trial in trials.values()), key=lambda loss_N: float(loss_N.mean()))
    judged = [
        one
        for combination, trial in trials.items()
        for score in request.scores
        if (one := JudgedCandidate.of(combination, score, trial, base_loss_N, request.budget, fold_N))
    ]
    if not judged:
        error = min(1 - float(trial.routed_correct_N.mean()) for trial in trials.values())
        lowest = float(risk_bound(np.array(error), len(fold_N)))
        raise InputError(
            f"risk = {request.budget.risk}: no rule bounds the error rate by it within the budget; the lowest bound, "
            f"with all samples routed, is {lowest:.4f}"
        )
    return judged


def _best(judged: Sequence[JudgedCandidate], budget: Budget, rows: BoolArray | slice = slice(None)) -> JudgedCandidate:
    """The candidate to choose by some of the samples, as ``tune`` describes; of equals, the first."""
    if budget.risk is not None:  # all candidates bound the risk, so cost decides
        return min(judged, key=lambda one: one.row.passes)
    most = max(judged, key=lambda one: float(one.correct_N[rows].mean()))
    # Candidates within one standard error of the best cannot be told from it (the rule of Breiman et al. 1984).
    close = []
    for one in judged:
        lost, error = _paired(most.correct_N[rows], one.correct_N[rows])
        if lost <= error:
            close.append(one)
    # Routing should not cost log loss; where every close candidate does, accuracy alone decides.
    close = [one for one in close if one.added_loss_N[rows].mean() <= 0] or close
    # With a limit to the cost, the user has said what a pass is worth: accuracy decides within it.
    if budget.passes is not None or budget.routed is not None:
        return max(close, key=lambda one: float(one.correct_N[rows].mean()))
    return min(close, key=lambda one: (one.row.passes, -one.row.accuracy))


def _paired(first_N: BoolArray, second_N: BoolArray) -> tuple[float, float]:
    """Mean and standard error of the difference on the same samples."""
    return _mean_and_error(first_N.astype(np.float64) - second_N)


def _mean_and_error(value_N: FloatArray) -> tuple[float, float]:
    """Mean and standard error."""
    return float(value_N.mean()), float(value_N.std() / np.sqrt(len(value_N)))


def _cross_fitted_choice(judged: list[JudgedCandidate], fold_N: IntArray, budget: Budget) -> BoolArray:
    """Whether each sample is answered rightly by the candidate that the other folds choose, of shape (N,)."""
    correct_N = np.zeros(len(fold_N), dtype=bool)
    for fold in np.unique(fold_N):
        held = fold_N == fold
        correct_N[held] = _best(judged, budget, other_folds(held)).correct_N[held]
    return correct_N


def _settle(
    best: JudgedCandidate, judged: Sequence[JudgedCandidate], procedure_N: BoolArray, budget: Budget
) -> tuple[JudgedCandidate, str]:
    """The best candidate, or what stands where the samples cannot tell the two apart; with a note.

    Args:
        best: the candidate that all samples choose.
        judged: all candidates.
        procedure_N: whether the cross-fitted choice is right.
        budget: what thresholds are chosen for.
    """
    by_name: dict[tuple[Combination, str], JudgedCandidate] = {
        (one.row.combination, one.row.score): one for one in judged
    }
    if PAPERS not in by_name or len(judged) == 1 or budget.risk is not None:
        return best, ""
    standing, name = next((by_name[key], said) for key, said in STANDING.items() if key in by_name)
    if best is standing:
        return best, f"{name[0].upper()}{name[1:]} is the best of the candidates."
    difference, error = _paired(procedure_N, standing.correct_N)
    seen = (
        f"{100 * difference:+.2f} points (standard error {100 * error:.2f}) on {len(procedure_N):,} validation samples"
    )
    if difference > ERRORS_TO_STAND * error:
        return best, f"Against {name}, the choice among the candidates is cross-fitted at {seen}."
    # What happens to none of the samples may still happen to this share of all, at the same odds of one in ten.
    unseen = np.log(10) / len(procedure_N)
    behind = max(ERRORS_TO_STAND * error, unseen) - min(difference, 0)
    if behind < AS_GOOD and best.added_loss_N.mean() < standing.added_loss_N.mean():
        return best, (
            f"The choice among the candidates is as accurate as {name} to half a point, and its probabilities are "
            f"better. Cross-fitted, its lead is {seen}."
        )
    return standing, f"The choice among the candidates is noise, so {name} stands: {seen}."
