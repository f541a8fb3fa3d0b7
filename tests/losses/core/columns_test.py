import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses.core.columns import row_column
from losses.core.term_values import evaluate

BATCH = {
    "targets": jnp.zeros((2, 3), jnp.int32),
    "mask": jnp.array([[True, True, False], [True, True, True]]),
    "forget": jnp.array([True, False]),
    "from": jnp.array([losses.name_id("a"), losses.name_id("b")], jnp.int32),
    "score": jnp.array([2.0, 0.5]),
    "part": jnp.array([[0, 1, 1], [0, 1, 1]]),
}
OUTPUTS = losses.FullOutputs(batch=BATCH, logits=jnp.zeros((2, 3, 4)))


def test_a_mask_counts_the_rows_whose_column_has_a_value():
    for mask, counted in (
        (losses.ColumnMask(column="forget"), [[1, 1, 0], [0, 0, 0]]),
        (losses.ColumnMask(column="from", equals="b"), [[0, 0, 0], [1, 1, 1]]),
        (losses.ColumnMask(column="part", equals=1), [[0, 1, 0], [0, 1, 1]]),
    ):
        np.testing.assert_array_equal(mask(BATCH), np.array(counted, bool))


def test_a_column_weighs_values_and_not_counts():
    weight = losses.ColumnWeight(column="score")
    term = losses.LossTerm(name="ce", loss=losses.CrossEntropy(), token_weight=weight)
    np.testing.assert_array_equal(weight(OUTPUTS), [[2.0] * 3, [0.5] * 3])
    np.testing.assert_array_equal(row_column(BATCH, "score"), [2.0, 0.5])
    assert float(evaluate([term], OUTPUTS)["ce"].count) == 5.0


def test_a_column_that_is_missing_is_named_beside_those_there_are():
    with pytest.raises(losses.IncompatibleLoss, match=r"no column 'bag', .*forget"):
        losses.ColumnMask(column="bag")(BATCH)
