"""The largest attention logit, of rows with padding."""

import jax.numpy as jnp
import numpy as np

import losses
import runner


def test_the_largest_logit_is_that_of_a_row_without_its_padding():
    scores = np.random.default_rng(0).normal(size=(2, 4, 3, 2, 4)).astype(np.float32)
    scores[:, 0, :, :, 1:] = -np.inf  # what a query may not see
    scores[1, 3] += 100.0
    mask = jnp.array([[True] * 4, [True, True, True, False]])
    outputs = losses.FullOutputs(
        batch={},
        logits=jnp.zeros((2, 4, 5)),
        intermediates={"attention": jnp.asarray(scores)},
        mask=mask,
    )
    values = runner.LargestAttentionLogit()(outputs)
    expected = [scores[0].max(), scores[1, :3].max()]
    np.testing.assert_array_equal(values, np.repeat(expected, 4).reshape(2, 4))
