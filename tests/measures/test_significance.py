import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap, ttest_1samp

from coterie.errors import InputError
from coterie.measures.significance import mcnemar, over_seeds, paired_bootstrap

rights = arrays(np.bool_, st.integers(1, 60))


def test_the_bootstrap_is_scipys() -> None:
    difference_N = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], p=[0.05, 0.85, 0.1], size=800)
    ours = paired_bootstrap(difference_N)
    theirs = bootstrap(
        (difference_N,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.mean == difference_N.mean()
    assert ours.low == pytest.approx(theirs.low, abs=0.002)
    assert ours.high == pytest.approx(theirs.high, abs=0.002)


def test_the_bootstrap_takes_differences_of_losses_too() -> None:
    difference_N = np.random.default_rng(0).normal(0.3, 1.0, size=3000)
    ours = paired_bootstrap(difference_N)
    assert ours.high - ours.low == pytest.approx(2 * 1.96 / np.sqrt(3000), rel=0.05)
    assert ours.excludes_zero


def test_bootstrap_and_normal_intervals_cover_at_their_nominal_rate() -> None:
    random = np.random.default_rng(0)
    p, n, trials = [0.04, 0.88, 0.08], 600, 1500
    covered = 0
    for trial in range(trials):
        interval = paired_bootstrap(random.choice([-1.0, 0.0, 1.0], p=p, size=n), seed=trial)
        covered += interval.low <= 0.04 <= interval.high
    # Three standard errors of a rate of 95 % in 1,500 trials are 1.7 points.
    assert abs(covered / trials - 0.95) < 0.017


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


@pytest.mark.parametrize("bad", [[], [np.nan, 1.0], [[1.0]]])
def test_what_cannot_be_resampled_is_refused(bad) -> None:
    with pytest.raises(InputError):
        paired_bootstrap(bad)


def test_classifiers_judged_on_other_samples_are_refused() -> None:
    with pytest.raises(InputError, match="3 and 2"):
        mcnemar(np.ones(3, bool), np.ones(2, bool))
    with pytest.raises(InputError, match="at least one run"):
        over_seeds([])
