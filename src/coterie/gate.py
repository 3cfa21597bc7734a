"""Where the base is unsure enough to ask a specialist. Arrays only.

A row is routed when its score reaches the threshold. A threshold of infinity routes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.errors import InputError

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]


def entropy(proba_NC: FloatArray) -> FloatArray:
    """H(p) = -sum_k p_k log p_k of each row, in nats, of shape (N,); 0 log 0 is 0."""
    log_NC = np.log(np.where(proba_NC > 0, proba_NC, 1.0))
    return -np.einsum("nc,nc->n", proba_NC, log_NC)


@dataclass(frozen=True)
class Gate:
    """Routes a row when the entropy of the base's probabilities, in nats, is at least ``threshold``."""

    threshold: float

    def __post_init__(self) -> None:
        if np.isnan(self.threshold):
            raise InputError("a gate's threshold must be a number; got nan")

    def routed(self, base_proba_NC: FloatArray) -> BoolArray:
        """Which rows go to a specialist, of shape (N,)."""
        return entropy(base_proba_NC) >= self.threshold


@dataclass(frozen=True, eq=False)
class GateCurve:
    """What every threshold would give on some labelled samples, from routing none (first) to routing all (last).

    All fields have shape (T,): ``threshold``; ``routed``, the fraction at or above it; ``accuracy``, of the ensemble.
    """

    threshold_T: FloatArray
    routed_T: FloatArray
    accuracy_T: FloatArray

    @property
    def best(self) -> int:
        """Index of the highest accuracy; of equals, the one that routes least."""
        return int(np.argmax(self.accuracy_T))


def sweep_thresholds(score_N: FloatArray, base_correct_N: BoolArray, routed_correct_N: BoolArray) -> GateCurve:
    """Accuracy at every threshold that tells samples apart, by one sort: O(N log N).

    Args:
        score_N: the gate's score of each sample.
        base_correct_N: whether the base is right.
        routed_correct_N: whether the ensemble would be right, were the sample routed.

    Raises:
        InputError: lengths differ, there is no sample, or a score is NaN.
    """
    n = len(score_N)
    if n == 0 or len(base_correct_N) != n or len(routed_correct_N) != n or np.isnan(score_N).any():
        raise InputError(
            f"a sweep needs as many scores ({n}), base answers ({len(base_correct_N)}) and routed answers "
            f"({len(routed_correct_N)}), at least one, none of them NaN"
        )
    order = np.argsort(-score_N, kind="stable")
    sorted_score = score_N[order]
    gain = routed_correct_N[order].astype(np.int64) - base_correct_N[order]
    # Samples of equal score are routed together: a threshold stands only after the last of them.
    last_of_equals = np.flatnonzero(np.append(sorted_score[1:] != sorted_score[:-1], True))
    n_routed_T = np.concatenate(([0], last_of_equals + 1))
    correct_T = base_correct_N.sum() + np.concatenate(([0], np.cumsum(gain)[last_of_equals]))
    threshold_T = np.concatenate(([np.inf], sorted_score[last_of_equals]))
    return GateCurve(threshold_T, n_routed_T / n, correct_T / n)


def cross_fitted_accuracy(
    score_N: FloatArray, base_correct_N: BoolArray, routed_correct_N: BoolArray, folds: int = 5, seed: int = 0
) -> float:
    """Accuracy on the samples that the threshold is chosen on, without the optimism of that choice: each fold is
    judged at the threshold that the other folds choose.
    """
    n = len(score_N)
    fold_N = np.random.default_rng(seed).permutation(n) % min(folds, n)
    correct = 0
    for fold in range(int(fold_N.max()) + 1):
        held = fold_N == fold
        rest = ~held if (~held).any() else held
        curve = sweep_thresholds(score_N[rest], base_correct_N[rest], routed_correct_N[rest])
        routed = score_N[held] >= curve.threshold_T[curve.best]
        correct += int(np.where(routed, routed_correct_N[held], base_correct_N[held]).sum())
    return correct / n
