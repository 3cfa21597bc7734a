"""Intervals and tests of differences: between two classifiers on the same samples, and over seeds. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from coterie.arrays import BoolArray
from coterie.errors import InputError

# Rounded as tables print it; with more digits, the intervals of stored reports would not be found again.
QUANTILE_95 = 1.96


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def gain_interval(before_N: BoolArray, after_N: BoolArray) -> Interval:
    """95 % interval of the difference of two accuracies on the same samples.

    The normal interval of the mean of per-sample differences, which are -1, 0 or 1: samples on which both classifiers
    are right, or both wrong, add nothing to its width.

    Args:
        before_N: whether the first classifier is right, of shape (N,).
        after_N: whether the second is.

    Raises:
        InputError: no sample, or another number of samples for each classifier.
    """
    _check_same_samples(before_N, after_N)
    difference_N = after_N.astype(np.float64) - before_N
    half = QUANTILE_95 * float(difference_N.std()) / np.sqrt(len(difference_N))
    return Interval(float(difference_N.mean()), float(difference_N.mean() - half), float(difference_N.mean() + half))


def mcnemar(first_N: BoolArray, second_N: BoolArray) -> float:
    """Two-sided exact p-value for two classifiers of the same accuracy (McNemar 1947); 1 where they never differ.

    Binomial on the samples on which exactly one of them is right.

    Args:
        first_N: whether the first is right, of shape (N,).
        second_N: whether the second is.

    Raises:
        InputError: no sample, or another number of samples for each classifier.
    """
    # Imported here: it takes a second, and hardly anything that reads a run needs it.
    from scipy.stats import binomtest

    _check_same_samples(first_N, second_N)
    only_first, only_second = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def _check_same_samples(first_N: BoolArray, second_N: BoolArray) -> None:
    if len(first_N) != len(second_N) or not len(first_N):
        raise InputError(
            f"both classifiers must be judged on the same samples, at least one; got {len(first_N)} and {len(second_N)}"
        )


def over_seeds(value_R: ArrayLike, level: float = 0.95) -> Interval:
    """Mean over R independent runs with Student's interval; of one run, the ends are infinite.

    Raises:
        InputError: no run.
    """
    value_R = np.asarray(value_R, dtype=np.float64)
    if not value_R.size:
        raise InputError("a mean over seeds needs at least one run")
    mean = float(value_R.mean())
    if len(value_R) == 1:
        return Interval(mean, -np.inf, np.inf)
    half = float(stdtrit(len(value_R) - 1, (1 + level) / 2) * value_R.std(ddof=1) / np.sqrt(len(value_R)))
    return Interval(mean, mean - half, mean + half)
