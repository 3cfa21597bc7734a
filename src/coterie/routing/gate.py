"""The gate: a score of each sample and a threshold that decide which samples ask a specialist. Arrays only.

A sample is routed when its score reaches the threshold. A threshold of infinity routes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, logsumexp

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.errors import InputError
from coterie.routing.combine import BaseAnswer
from coterie.vocabulary import ScoreName

# Four fifths of the samples fit nearly what all would, for five fits.
FOLDS = 5
RISK_CONFIDENCE = 0.95
# Ridge regression's penalty on standardised features. Features are few and samples many, so any small value will do.
RIDGE = 10.0


def entropy(proba_NC: FloatArray) -> FloatArray:
    """H(p) = -sum_k p_k log p_k of each row, in nats, of shape (N,); 0 log 0 is 0."""
    # einsum sums the products of a row without an array of all products.
    log_NC = np.log(np.where(proba_NC > 0, proba_NC, 1.0))
    return -np.einsum("nc,nc->n", proba_NC, log_NC)


def first_two(proba_NC: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The largest and the second largest value of each row, each of shape (N,); of a single column, 0 is the second."""
    if proba_NC.shape[1] == 1:
        return proba_NC[:, 0], np.zeros_like(proba_NC[:, 0])
    # A partition and not a sort: two values of many classes are needed.
    largest_N2 = np.partition(proba_NC, -2, axis=1)[:, -2:]
    return largest_N2[:, 1], largest_N2[:, 0]


def contested(answer: BaseAnswer) -> FloatArray:
    """The mass of the most likely cluster less the lead that its first class has over its second, of shape (N,).

    It is low where the first class leads far, as a specialist can turn nothing there, and where the mass is small, as
    the true class is likely elsewhere.
    """
    partition = answer.partition
    stake_N = answer.cluster_mass_N.copy()
    for cluster in partition.layers[0].tolist():
        row_R = np.flatnonzero(answer.cluster_N == cluster)
        first_R, second_R = first_two(answer.proba_NC[np.ix_(row_R, partition.classes(cluster))])
        stake_N[row_R] -= first_R - second_R
    return stake_N


def _margin(answer: BaseAnswer) -> FloatArray:
    first_N, second_N = first_two(answer.proba_NC)
    # Turned around, since a gate routes high scores.
    return 1 - (first_N - second_N)


SCORES: dict[ScoreName, Callable[[BaseAnswer], FloatArray]] = {
    "entropy": lambda answer: entropy(answer.proba_NC),
    "confidence": lambda answer: 1 - answer.proba_NC.max(axis=1),
    "margin": _margin,
    # Liu et al. 2020, "Energy-based out-of-distribution detection".
    "energy": lambda answer: -logsumexp(answer.logits_NC, axis=1),
    "clusters": lambda answer: entropy(answer.mass_NS[:, answer.partition.layers[0]]),
    "contested": contested,
}


def features(answer: BaseAnswer) -> FloatArray:
    """The input of a learned gate: every score, the mass, and logarithms. Float64 of shape (N, F)."""
    scores = [score(answer) for score in SCORES.values()]
    first_N, second_N = first_two(answer.proba_NC)
    mass_N, stake_N = answer.cluster_mass_N, scores[-1]
    # The gate is linear: with logarithms it can weigh ratios of probabilities too.
    smallest = np.finfo(np.float32).tiny
    logs = [np.log(np.maximum(value_N, smallest)) for value_N in (first_N, second_N, mass_N, stake_N)]
    return np.column_stack([*scores, mass_N, stake_N / mass_N, *logs]).astype(np.float64)


N_FEATURES = len(SCORES) + 6


@dataclass(frozen=True)
class GainModel:
    """A linear estimate of P(ensemble right) - P(base right) from ``features``: what routing a sample would gain."""

    intercept: float
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.coefficients) != N_FEATURES or not np.isfinite((self.intercept, *self.coefficients)).all():
            raise InputError(f"a learned gate has {N_FEATURES} finite coefficients; got {self.coefficients}")

    @classmethod
    def fit(cls, features_NF: FloatArray, base_correct_N: BoolArray, routed_correct_N: BoolArray) -> GainModel:
        """Fit by ridge regression of the gain, which is -1, 0 or 1, on all features."""
        # Imported here, as only fitting needs it.
        from sklearn.linear_model import Ridge

        # The least spread keeps a constant feature from a division by 0.
        centre_F, spread_F = features_NF.mean(axis=0), features_NF.std(axis=0) + 1e-9
        gain_N = routed_correct_N.astype(np.float64) - base_correct_N
        ridge = Ridge(alpha=RIDGE).fit((features_NF - centre_F) / spread_F, gain_N)
        # Standardisation is folded into the coefficients, so that the manifest needs no further numbers.
        coefficient_F = ridge.coef_ / spread_F
        return cls(float(ridge.intercept_ - coefficient_F @ centre_F), tuple(coefficient_F.tolist()))

    def gain(self, features_NF: FloatArray) -> FloatArray:
        """The estimate, of shape (N,)."""
        return features_NF @ np.asarray(self.coefficients) + self.intercept


@dataclass(frozen=True)
class Gate:
    """Routes a row when its score is at least ``threshold``.

    ``score``: ``entropy`` of the base's probabilities, in nats (the paper's); ``confidence``, 1 less the largest
    probability; ``margin``, 1 less the lead of the first class over the second; ``energy``, less the log of the sum of
    exponentiated logits; ``clusters``, the entropy over clusters; ``contested``; or ``learned``, with its ``model``.

    Raises:
        InputError: the threshold is NaN, the score unknown, or a learned gate without its model.
    """

    threshold: float
    score: ScoreName = "entropy"
    model: GainModel | None = None

    def __post_init__(self) -> None:
        if np.isnan(self.threshold):
            raise InputError("a gate's threshold must be a number; got nan")
        if self.score not in get_args(ScoreName):
            raise InputError(f"gate score {self.score!r}: must be one of {', '.join(get_args(ScoreName))}")
        if (self.score == "learned") != (self.model is not None):
            raise InputError(f"a learned gate needs a model, and no other takes one; score {self.score!r}")

    def scores(self, answer: BaseAnswer) -> FloatArray:
        """The score of each row, of shape (N,)."""
        return SCORES[self.score](answer) if self.model is None else self.model.gain(features(answer))

    def routed(self, answer: BaseAnswer) -> BoolArray:
        """Which rows go to a specialist, of shape (N,)."""
        return self.scores(answer) >= self.threshold


@dataclass(frozen=True)
class Budget:
    """What the threshold is chosen for: the best accuracy within the given limits.

    ``passes``: mean forward passes per sample, the base's included; ``routed``: share of samples; ``risk``: error rate
    to bound, with a confidence of 95 %, at the least cost; ``threshold``: given, and not chosen.

    Raises:
        InputError: a limit out of its range, or a limit beside a threshold.
    """

    passes: float | None = None
    routed: float | None = None
    risk: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.passes is not None and not self.passes >= 1:
            raise InputError(f"passes = {self.passes}: every sample takes the base's pass, so at least 1")
        for name, share in (("routed", self.routed), ("risk", self.risk)):
            if share is not None and not 0 <= share <= 1:
                raise InputError(f"{name} = {share}: a share, from 0 to 1")
        if self.threshold is not None and any(v is not None for v in (self.passes, self.routed, self.risk)):
            raise InputError("a threshold leaves nothing to choose: give it without passes, routed or risk")

    @property
    def is_open(self) -> bool:
        """Whether accuracy decides, within the limits, and neither a risk nor a threshold."""
        return self.risk is None and self.threshold is None


@dataclass(frozen=True, eq=False)
class GateCurve:
    """What every threshold gives on labelled samples, from routing none (first) to routing all (last).

    All arrays have shape (T,): ``threshold``; ``routed``, the fraction at or above it; ``accuracy``, of the ensemble;
    ``passes``, mean forward passes.
    """

    n_samples: int
    threshold_T: FloatArray
    routed_T: FloatArray
    accuracy_T: FloatArray
    passes_T: FloatArray

    @property
    def best(self) -> int:
        """Index of the highest accuracy; of equals, the one that routes least."""
        return int(np.argmax(self.accuracy_T))

    def choose(self, budget: Budget) -> int:
        """Index of the threshold for a budget. Routing nothing meets any limit to the cost.

        For a risk, thresholds are tested from the one that routes the most, within the limits, down to the first that
        fails; the last that held is chosen (Angelopoulos et al. 2021, "Learn then Test"). The bound of one threshold is
        Clopper and Pearson's.

        Raises:
            InputError: no threshold bounds the risk; the message names the lowest bound.
        """
        if budget.threshold is not None:
            return int(np.flatnonzero(self.threshold_T >= budget.threshold)[-1])
        slack = 1e-9  # sums of shares are not exact
        allowed_T = self.passes_T <= (np.inf if budget.passes is None else budget.passes) + slack
        allowed_T &= self.routed_T <= (1.0 if budget.routed is None else budget.routed) + slack
        if budget.risk is None:
            return int(np.argmax(np.where(allowed_T, self.accuracy_T, -1.0)))
        # Tests in a fixed order that stop at the first failure need no correction for their number.
        bound_T = risk_bound(1 - self.accuracy_T, self.n_samples)
        most = int(np.flatnonzero(allowed_T)[-1])
        failing = np.flatnonzero(bound_T[: most + 1] > budget.risk)
        if failing.size and failing[-1] == most:
            raise InputError(
                f"risk = {budget.risk}: no threshold bounds the error rate by it. With as much routed as is allowed "
                f"({self.routed_T[most]:.1%}), it is at most {bound_T[most]:.4f} with a confidence of "
                f"{RISK_CONFIDENCE:.0%}"
            )
        return int(failing[-1]) + 1 if failing.size else 0


def risk_bound(error_T: FloatArray, n_samples: int) -> FloatArray:
    """Upper bounds of error rates that were seen on N samples, at a confidence of 95 % (Clopper and Pearson 1934)."""
    wrong_T = np.round(error_T * n_samples)
    bound_T = betaincinv(wrong_T + 1, n_samples - wrong_T, RISK_CONFIDENCE)
    # Where all are wrong, the beta distribution has no parameters.
    return np.where(wrong_T >= n_samples, 1.0, bound_T)


def sweep_thresholds(
    score_N: FloatArray,
    base_correct_N: BoolArray,
    routed_correct_N: BoolArray,
    extra_N: NDArray[Any] | None = None,
) -> GateCurve:
    """Accuracy and cost at every threshold that separates samples, by one sort: O(N log N).

    Args:
        score_N: the gate's score of each sample.
        base_correct_N: whether the base is right.
        routed_correct_N: whether the ensemble is right if the sample is routed.
        extra_N: forward passes that routing the sample adds; default: one each.

    Raises:
        InputError: lengths differ, there is no sample, or a score is NaN.
    """
    n = len(score_N)
    extra_N = np.ones(n) if extra_N is None else extra_N
    lengths = (len(base_correct_N), len(routed_correct_N), len(extra_N))
    if n == 0 or lengths != (n, n, n) or np.isnan(score_N).any():
        raise InputError(
            f"a sweep needs as many scores ({n}) as base answers, routed answers and costs {lengths}, at least one, "
            "none of them NaN"
        )
    order = np.argsort(-score_N, kind="stable")
    sorted_score = score_N[order]
    gain = routed_correct_N[order].astype(np.int64) - base_correct_N[order]
    # Samples of equal score are routed together: a threshold lies only after the last of them.
    last_of_equals = np.flatnonzero(np.append(sorted_score[1:] != sorted_score[:-1], True))

    def gathered(values_N: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate(([0], np.cumsum(values_N)[last_of_equals]))

    return GateCurve(
        n,
        threshold_T=np.concatenate(([np.inf], sorted_score[last_of_equals])),
        routed_T=np.concatenate(([0], last_of_equals + 1)) / n,
        accuracy_T=(base_correct_N.sum() + gathered(gain)) / n,
        passes_T=1 + gathered(extra_N[order]) / n,
    )


def make_folds(n_samples: int, seed: int = 0, folds: int = FOLDS) -> IntArray:
    """The fold of each sample, of shape (N,); sizes differ by at most 1."""
    return np.random.default_rng(seed).permutation(n_samples) % min(folds, n_samples)


def other_folds(held_N: BoolArray) -> BoolArray:
    """The samples that a fold's answers are fitted on: those of the other folds; of a single sample, itself."""
    return held_N if held_N.all() else ~held_N


def cross_fitted_routing(
    score_N: FloatArray,
    base_correct_N: BoolArray,
    routed_correct_N: BoolArray,
    extra_N: NDArray[Any],
    budget: Budget,
    fold_N: IntArray,
) -> BoolArray:
    """Which samples are routed, of shape (N,), each fold at the threshold that the other folds choose.

    So figures on the samples that the threshold is chosen on are free of the optimism of that choice.

    Args:
        score_N: the gate's score of each sample.
        base_correct_N: whether the base is right.
        routed_correct_N: whether the ensemble is right if the sample is routed.
        extra_N: forward passes that routing the sample adds.
        budget: what the threshold is chosen for.
        fold_N: the fold of each sample.
    """
    routed_N = np.zeros(len(score_N), dtype=bool)
    for fold in np.unique(fold_N).tolist():
        held = fold_N == fold
        rest = other_folds(held)
        curve = sweep_thresholds(score_N[rest], base_correct_N[rest], routed_correct_N[rest], extra_N[rest])
        routed_N[held] = score_N[held] >= curve.threshold_T[curve.choose(budget)]
    return routed_N
