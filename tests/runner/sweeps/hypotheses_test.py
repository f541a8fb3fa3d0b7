"""Inductive bias: the improbability of errors, of a fit to those of a sweep."""

import math

import numpy as np
import pytest

from runner.sweeps.hypotheses import information


@pytest.mark.slow  # fits of greatest likelihood
def test_information_is_that_of_the_share_of_units_with_so_small_an_error():
    draws = np.random.default_rng(0)
    errors = 0.01 * draws.noncentral_chisquare(5.0, 20.0, size=80)
    at = {error: information(errors, error) for error in (1e-9, 0.2, 10.0)}
    share = -math.log(np.mean(errors <= 0.2))
    np.testing.assert_allclose(at[0.2], share, rtol=0.2)
    assert at[10.0] < 1e-6
    assert at[0.2] < at[1e-9] < math.inf
