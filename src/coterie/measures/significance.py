"""Is a difference more than chance? Between two classifiers on the same samples, and over seeds. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, t

from coterie.arrays import BoolArray
from coterie.errors import InputError

RESAMPLES = 4000
# Weights of resamples are drawn in blocks of about this many numbers: 32 MB.
BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the difference is told apart from none."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(difference_N: ArrayLike, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean of per-sample differences (Efron 1979).

    Args:
        difference_N: what the second classifier has more than the first on each of N samples: -1, 0 or 1 where they
            are right or wrong, or a difference of losses.
        level: of confidence.
        seed: the same seed gives the same interval.

    Raises:
        InputError: no sample, or a value that is not finite.
    """
    difference_N = np.asarray(difference_N, dtype=np.float64)
    if difference_N.ndim != 1 or not difference_N.size or not np.isfinite(difference_N).all():
        raise InputError("a bootstrap needs one finite difference per sample, and at least one sample")
    # How often each distinct value is drawn is all that matters, and that is multinomial: three counts for accuracies.
    value_U, count_U = np.unique(difference_N, return_counts=True)
    n = len(difference_N)
    random = np.random.default_rng(seed)
    block = max(1, BLOCK // len(value_U))
    mean_R = np.concatenate(
        [
            random.multinomial(n, count_U / n, size=min(block, RESAMPLES - start)) @ value_U / n
            for start in range(0, RESAMPLES, block)
        ]
    )
    low, high = np.quantile(mean_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(difference_N.mean()), float(low), float(high))


def mcnemar(first_N: BoolArray, second_N: BoolArray) -> float:
    """Two-sided exact p-value that two classifiers have the same accuracy (McNemar 1947; binomial on the samples on
    which exactly one of them is right). 1 where they never differ.

    Args:
        first_N: whether the first is right, of shape (N,).
        second_N: whether the second is.
    """
    if len(first_N) != len(second_N):
        raise InputError(f"both classifiers must be judged on the same samples; got {len(first_N)} and {len(second_N)}")
    only_first, only_second = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def over_seeds(value_R: ArrayLike, level: float = 0.95) -> Interval:
    """Mean over R independent runs with Student's interval. One run has no interval: its ends are infinite.

    Raises:
        InputError: no run.
    """
    value_R = np.asarray(value_R, dtype=np.float64)
    if not value_R.size:
        raise InputError("a mean over seeds needs at least one run")
    mean = float(value_R.mean())
    if len(value_R) == 1:
        return Interval(mean, -np.inf, np.inf)
    half = float(t.ppf((1 + level) / 2, len(value_R) - 1) * value_R.std(ddof=1) / np.sqrt(len(value_R)))
    return Interval(mean, mean - half, mean + half)


def show_chance(p: float | None) -> str:
    """A p-value with two digits; nothing for None."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.2g}"
