"""Random points: the same everywhere, inside their bounds, spread as they should be."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from runner import sweeps
from runner.errors import UserError

RATE = "fdl.learning_rate"
WEIGHT = "fdl.weight"


def both(num, seed=0):
    return sweeps.random_points(
        {RATE: sweeps.log_uniform(1e-4, 1e-1), WEIGHT: sweeps.uniform(0, 2)},
        num=num,
        seed=seed,
    )


def test_the_draws_of_a_seed_are_these():
    # Written down once: another machine, or another NumPy, must draw the same.
    assert both(3, seed=1) == [
        {RATE: 0.00343, WEIGHT: 1.9},
        {RATE: 0.000271, WEIGHT: 1.9},
        {RATE: 0.000862, WEIGHT: 0.847},
    ]


@hypothesis.given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32))
def test_more_points_begin_with_the_same(few, more, seed):
    assert both(few + more, seed)[:few] == both(few, seed)


@hypothesis.given(st.floats(1e-6, 1e3), st.floats(1.01, 1e6), st.integers(0, 2**32))
def test_draws_stay_inside_their_bounds_and_are_readable(low, ratio, seed):
    high = low * ratio
    for of in (sweeps.log_uniform, sweeps.uniform):
        (point,) = sweeps.random_points({RATE: of(low, high)}, num=1, seed=seed)
        value = point[RATE]
        assert low <= value <= high
        assert value in (low, high) or value == float(f"{value:.3g}")


def test_log_uniform_is_even_in_the_logarithm_and_uniform_in_the_value():
    points = both(3000)
    logs = np.log10([point[RATE] for point in points])
    plain = np.array([point[WEIGHT] for point in points])
    for values, low, high in ((logs, -4, -1), (plain, 0, 2)):
        counts, _ = np.histogram(values, bins=10, range=(low, high))
        # Six standard deviations of a binomial count.
        assert np.abs(counts - 300).max() < 6 * math.sqrt(300 * 0.9)
    assert abs(np.corrcoef(logs, plain)[0, 1]) < 0.06


def test_a_choice_takes_each_option_and_never_a_point_twice():
    options = sweeps.random_points({"fdl.a": sweeps.choice("x", "y", "z")}, num=3)
    assert sorted(point["fdl.a"] for point in options) == ["x", "y", "z"]
    with pytest.raises(UserError, match="4 points asked for, only 3 are different"):
        sweeps.random_points({"fdl.a": sweeps.choice("x", "y", "z")}, num=4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: sweeps.uniform(2, 1), "uniform: expected low < high, got 2 and 1"),
        (lambda: sweeps.log_uniform(0, 1), "low must be positive, got 0"),
        (lambda: sweeps.log_uniform(1, math.inf), "expected low < high"),
        (lambda: sweeps.choice(), "choice: no options"),
        (lambda: sweeps.random_points({}, num=1), "expected distributions"),
        (lambda: both(0), "num >= 1, got num=0"),
        (
            lambda: sweeps.random_points({"gin.a": sweeps.uniform(0, 1)}, num=1),
            "cannot set gin flags",
        ),
    ],
)
def test_a_mistake_is_named(make, said):
    with pytest.raises(UserError) as refused:
        make()
    assert said in str(refused.value)
