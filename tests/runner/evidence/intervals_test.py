"""Intervals against scipy and numpy, and how often they hold the mean."""

import math

import numpy as np
import pytest
import scipy.special

from runner.evidence import intervals

FIVE = [4.31, 4.27, 4.35, 4.22, 4.30]


def test_mean_and_deviation_of_values_that_a_reader_checks():
    spread = intervals.of([1.0, 2.0, 3.0])
    assert (spread.count, spread.mean, spread.deviation) == (3, 2.0, 1.0)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 40])
def test_the_interval_is_that_of_scipy_at_the_expanded_level(count):
    import scipy.stats  # takes two seconds, of every session at the top

    x = np.random.default_rng(count).normal(4.0, 0.1, count)
    spread = intervals.of(list(x))
    wide = math.sqrt(count / (count - 1)) * scipy.special.stdtrit(count - 1, 0.975)
    level = 1.0 - 2.0 * scipy.special.ndtr(-wide)
    reference = scipy.stats.bootstrap(
        (x,),
        np.mean,
        n_resamples=intervals.RESAMPLES,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(intervals.SEED),
    )
    interval = reference.confidence_interval
    np.testing.assert_allclose((spread.low, spread.high), interval, rtol=1e-5)
    np.testing.assert_allclose(spread.mean, x.mean(), rtol=1e-15)
    np.testing.assert_allclose(spread.deviation, np.std(x, ddof=1), rtol=1e-15)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 6, 9, 19, 99, 999])
def test_quantiles_of_student_are_those_of_scipy(degrees):
    reference = scipy.special.stdtrit(degrees, 0.975)
    np.testing.assert_allclose(intervals.student(degrees), reference, atol=2e-4)


def test_the_same_values_have_the_same_interval():
    intervals._of.cache_clear()
    first = intervals.of(FIVE)
    intervals._of.cache_clear()
    assert intervals.of(FIVE) == first


@pytest.mark.parametrize(("count", "least"), [(3, 0.70), (5, 0.88), (10, 0.92)])
def test_the_interval_holds_the_mean_of_a_normal_about_as_often_as_it_says(
    count, least
):
    random = np.random.default_rng(0)
    draws = random.normal(size=(400, count))
    spreads = [intervals._of.__wrapped__(tuple(x)) for x in draws.tolist()]
    assert np.mean([s.low <= 0.0 <= s.high for s in spreads]) >= least


def test_two_values_exclude_nothing():
    assert not intervals.of([1.0, 1.1]).excludes_zero
    assert intervals.of([1.0, 1.1, 1.2]).excludes_zero
    assert intervals.of([-1.0, -1.1, -1.2]).excludes_zero


def test_one_value_has_no_interval():
    spread = intervals.of([3.0])
    assert spread.mean == 3.0 and math.isnan(spread.low) and not spread.excludes_zero


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError, match="expected finite values"):
        intervals.of(values)
