import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap, ttest_1samp

from coterie.errors import InputError
from coterie.measures.significance import Interval, gain_interval, mcnemar, over_seeds

rights = arrays(np.bool_, st.integers(1, 60))


def drawn_answers(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether two classifiers are right: the second on 0.75 points more of the samples than the first."""
    before_N = random.random(n) < 0.7
    return before_N, np.where(random.random(n) < 0.15, random.random(n) < 0.75, before_N)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_a_gain_is_that_of_scipys_bootstrap(seed: int) -> None:
    before_N, after_N = drawn_answers(np.random.default_rng(seed), 800)
    difference_N = after_N.astype(float) - before_N
    ours = gain_interval(before_N, after_N)
    theirs = bootstrap(
        (difference_N,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.mean == difference_N.mean()
    assert ours.low == pytest.approx(theirs.low, abs=0.002)
    assert ours.high == pytest.approx(theirs.high, abs=0.002)


def test_the_interval_of_a_gain_covers_the_truth_at_its_rate() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        interval = gain_interval(*drawn_answers(random, 1500))
        covered += interval.low <= 0.15 * (0.75 - 0.7) <= interval.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_the_interval_of_a_gain_excludes_zero_where_the_second_is_often_right_alone() -> None:
    before_N = np.arange(1000) < 700
    assert gain_interval(before_N, np.arange(1000) < 720).excludes_zero
    assert not gain_interval(before_N, np.roll(before_N, 20)).excludes_zero
    assert gain_interval(before_N, before_N) == Interval(0, 0, 0)


def test_students_interval_covers_at_its_nominal_rate() -> None:
    random = np.random.default_rng(0)
    intervals = [over_seeds(random.normal(1.0, 0.4, size=3)) for _ in range(3000)]
    covered = np.mean([interval.low <= 1.0 <= interval.high for interval in intervals])
    assert abs(covered - 0.95) < 0.012


@given(rights, st.randoms(use_true_random=False))
def test_mcnemar_is_statsmodels(first_N, random) -> None:
    module = pytest.importorskip("statsmodels.stats.contingency_tables")
    second_N = np.array([random.random() < 0.5 for _ in first_N])
    table = [[(first_N & second_N).sum(), (first_N & ~second_N).sum()], [(~first_N & second_N).sum(), 0]]
    assert mcnemar(first_N, second_N) == pytest.approx(module.mcnemar(table, exact=True).pvalue, abs=1e-12)


@given(rights, st.integers(0, 2**32 - 1))
def test_mcnemar_is_symmetric(first_N, seed) -> None:
    second_N = np.random.default_rng(seed).random(len(first_N)) < 0.5
    assert mcnemar(first_N, second_N) == mcnemar(second_N, first_N)
    assert mcnemar(first_N, first_N) == 1.0


def test_the_interval_over_seeds_is_students() -> None:
    value = [0.8, 1.1, 1.3]
    reference = ttest_1samp(value, 0).confidence_interval(0.95)
    ours = over_seeds(value)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((np.mean(value), reference.low, reference.high))


def test_one_seed_has_no_interval() -> None:
    assert over_seeds([0.7]) == over_seeds(np.array([0.7]))
    assert over_seeds([0.7]).low == -np.inf
    assert not over_seeds([0.7]).excludes_zero


def test_classifiers_judged_on_other_samples_are_refused() -> None:
    for compare in (mcnemar, gain_interval):
        with pytest.raises(InputError, match="3 and 2"):
            compare(np.ones(3, bool), np.ones(2, bool))
        with pytest.raises(InputError, match="at least one; got 0 and 0"):
            compare(np.ones(0, bool), np.ones(0, bool))
    with pytest.raises(InputError, match="at least one run"):
        over_seeds([])
