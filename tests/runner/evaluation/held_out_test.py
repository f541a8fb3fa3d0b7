"""Masks of held-out rows: of whole batches and of blocks of the head."""

import functools

import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("index", "tokens"),
    [((6,), (6, 4)), ((6, 4), (6, 4)), ((1, 4), (1, 4)), ((24,), (24,))],
    ids=["a batch", "a block of rows", "a block of one row", "a block of tokens"],
)
def test_rows_that_only_fill_a_batch_do_not_count(index, tokens):
    rng = np.random.default_rng(0)
    real = rng.random(index) < 0.5
    mask = rng.random(tokens) < 0.7
    counted = held_out._OfRows(losses.target_mask)(
        {"mask": mask, "index": np.where(real, 3, -1).astype(np.int32)}
    )
    of_tokens = real[:, None] if len(index) < len(tokens) else real
    np.testing.assert_array_equal(counted, mask & of_tokens)
