"""Inductive bias: the improbability of errors, of a fit to those of a sweep."""

import math

import numpy as np

from runner.sweeps.hypotheses import information


def test_information_is_that_of_the_share_of_units_with_so_small_an_error():
    draws = np.random.default_rng(0)
    errors = 0.01 * draws.noncentral_chisquare(5.0, 20.0, size=150)
    at = {error: information(errors, error) for error in (1e-9, 0.15, 0.25, 10.0)}
    assert list(at.values()) == sorted(at.values(), reverse=True)
    for error in (0.15, 0.25):
        share = -math.log(np.mean(errors <= error))
        np.testing.assert_allclose(at[error], share, rtol=0.2)
    assert at[10.0] < 1e-6
    assert math.isfinite(at[1e-9])
