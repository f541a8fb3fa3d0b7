"""The mask of a term whose loss is not built, on held-out rows."""

import functools

import numpy as np

import losses
from losses import LossTerm
from runner.evaluation import held_out


def test_a_term_that_leaves_its_mask_to_its_loss_counts_what_that_counts():
    loss = functools.partial(
        losses.OwnHead, loss=losses.CrossEntropy(), dim=4, num_outputs=3
    )
    declared = LossTerm(name="own", loss=loss, weight=0.5)
    assert declared.mask is None
    trained = LossTerm(name="own", loss=losses.CrossEntropy(), weight=0.5)
    (term,) = held_out._unweighted([declared], [trained])
    batch = {
        "mask": np.array([True, True, False]),
        "index": np.array([3, -1, 5], np.int32),
    }
    assert term.mask is not None
    np.testing.assert_array_equal(term.mask(batch), [True, False, False])
    assert (term.weight, term.loss) == (1.0, loss)
