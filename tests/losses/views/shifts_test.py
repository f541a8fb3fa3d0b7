"""The smooth adversarial loss bounds the adversarial margin loss."""

import math

import jax
import numpy as np

from losses import functional

CLASSES, ROWS = 5, 400


def test_comp_sum_and_a_shift_of_margins_bound_the_margin_loss_of_the_view():
    draw = np.random.default_rng(0)
    clean = draw.normal(size=(ROWS, CLASSES), scale=2.0)
    view = clean + draw.normal(size=(ROWS, CLASSES)) * draw.random((ROWS, 1))
    targets = draw.integers(0, CLASSES, ROWS).astype(np.int32)
    arrays = clean.astype(np.float32), view.astype(np.float32), targets
    shift = np.asarray(functional.margin_shift(*arrays))

    # In float64: margins of the view, and what the norm is of.
    others = np.arange(CLASSES) != targets[:, None]
    margins = np.take_along_axis(view, targets[:, None], axis=1) - view
    moved = margins - (np.take_along_axis(clean, targets[:, None], axis=1) - clean)
    np.testing.assert_allclose(shift, np.linalg.norm(moved, axis=1), rtol=1e-4)
    for tau, rho in ((0.0, 2.0), (1.0, 0.5), (1.6, 1.0)):
        total = np.sum(np.clip(1.0 - margins / rho, 0.0, 1.0) * others, axis=1)
        adversarial = (
            np.log1p(total)
            if tau == 1.0
            else (1.0 - (1.0 + total) ** (1.0 - tau)) / (tau - 1.0)
        )
        smooth = functional.comp_sum(arrays[0], targets, tau=tau, margin=rho)
        bound = np.asarray(smooth) + math.sqrt(CLASSES - 1) / rho * shift
        assert np.all(adversarial <= bound + 1e-5), tau
    slope = jax.grad(lambda x: functional.margin_shift(x, arrays[0], targets).sum())
    assert not np.any(slope(arrays[0]))  # the clean input: 0, and no NaN
