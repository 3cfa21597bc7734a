"""Accuracy, log loss, calibration error and other scores of probabilities, as functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coterie.arrays import BoolArray, FloatArray, IntArray


def in_top_k(score_NC: FloatArray, label_N: IntArray, k: int) -> BoolArray:
    """Whether the true class is among the k highest scores of its row, of shape (N,).

    Of equal scores the earlier class is ahead, as for argmax.

    Examples:
        >>> in_top_k(np.array([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1]]), np.array([2, 2]), 2).tolist()
        [True, False]
    """
    # Counting who is ahead takes one pass; a sort of many classes would take longer.
    own_N1 = np.take_along_axis(score_NC, label_N[:, None], axis=1)
    earlier_NC = np.arange(score_NC.shape[1])[None, :] < label_N[:, None]
    ahead_NC = (score_NC > own_N1) | ((score_NC == own_N1) & earlier_NC)
    return ahead_NC.sum(axis=1) < k


@dataclass(frozen=True)
class Scores:
    """Scores of probabilities. Accuracies are shares of 1; ``nll`` is in nats.

    ``ece``: expected calibration error of the top class (Naeini 2015; Guo 2017), 15 bins of equal width. ``brier``:
    squared distance to the true class's indicator (Brier 1950), from 0 to 2. ``aurc``: area under the risk-coverage
    curve, the largest probability being the confidence (Geifman 2017); lower is better.
    """

    top1: float
    top3: float
    nll: float
    ece: float
    brier: float
    aurc: float


def score(proba_NC: FloatArray, label_N: IntArray) -> Scores:
    """All scores of probabilities of shape (N, C) against true classes."""
    top_N = proba_NC.argmax(axis=1)
    confidence_N, true_N = probability_of(proba_NC, top_N), probability_of(proba_NC, label_N)
    right_N = top_N == label_N
    return Scores(
        top1=float(right_N.mean()),
        top3=float(in_top_k(proba_NC, label_N, 3).mean()),
        nll=float(log_loss(true_N).mean()),
        ece=calibration_error(confidence_N, right_N),
        # |p - e|^2 = |p|^2 - 2 p_true + 1, without an indicator matrix.
        brier=float((np.einsum("nc,nc->n", proba_NC, proba_NC, dtype=np.float64) - 2 * true_N + 1).mean()),
        aurc=risk_coverage_area(confidence_N, right_N),
    )


def probability_of(proba_NC: FloatArray, class_N: IntArray) -> NDArray[np.float64]:
    """The probability that each sample gives to one class, of shape (N,)."""
    return np.take_along_axis(proba_NC, class_N[:, None], axis=1)[:, 0].astype(np.float64)


def log_loss(true_N: FloatArray) -> FloatArray:
    """Log loss of each sample in nats, from the probability of its true class.

    A true class with probability 0 costs 16 nats, not infinity.
    """
    # The floor that scikit-learn has for float32.
    loss_N: FloatArray = -np.log(np.maximum(true_N, np.finfo(np.float32).eps))
    return loss_N


def calibration_error(confidence_N: FloatArray, right_N: BoolArray, bins: int = 15) -> float:
    """Mean over bins of equal width, weighted by their samples, of |accuracy - mean confidence|."""
    # A confidence of 1 belongs to the last bin.
    bin_N = np.minimum((confidence_N * bins).astype(np.int64), bins - 1)
    gap_B = np.bincount(bin_N, weights=confidence_N - right_N, minlength=bins)
    return float(np.abs(gap_B).sum() / len(confidence_N))


def risk_coverage_area(confidence_N: FloatArray, right_N: BoolArray) -> float:
    """Mean over all coverages of the error rate on the most confident samples.

    Samples of equal confidence count with their mean error, so that their order does not matter.
    """
    _, tie_N, count_U = np.unique(-confidence_N, return_inverse=True, return_counts=True)
    wrong_U = np.bincount(tie_N, weights=~right_N) / count_U
    wrong_N = np.repeat(wrong_U, count_U)  # most confident first
    return float((np.cumsum(wrong_N) / np.arange(1, len(wrong_N) + 1)).mean())
