"""Every kind of term in one step: the gradient of the textbook, whatever the cut."""

import numpy as np
import pytest

from tests.cases import cases
from tests.runner.step import programs
from tests.runner.step.inputs import assert_same

FAST = ("data", "blocks", "tiles")


@pytest.mark.parametrize("cut", cases({cut: cut for cut in programs.CUTS}, fast=FAST))
def test_a_cut_batch_has_the_gradient_of_the_textbook(cut):
    # dear: compiles all terms at once, in place of each file its own.
    params, total, terms, weights, load = programs.gradients(cut)
    expected = programs.textbook(programs.CUTS[cut][0])
    for name, (sum_of_values, count) in expected[2].items():
        np.testing.assert_allclose(
            terms[name].total, sum_of_values, rtol=1e-5, err_msg=name
        )
        assert terms[name].count == count
    np.testing.assert_allclose(weights["calm"], expected[3], rtol=1e-5)
    assert_same((params, total), expected[:2])
    np.testing.assert_array_equal(load, expected[4])
