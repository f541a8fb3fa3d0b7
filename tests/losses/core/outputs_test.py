"""What masking does to the inputs of a loss."""

import jax
import jax.numpy as jnp
import numpy as np

from losses.core.outputs import FullOutputs


def test_masked_outputs_have_a_log_normalizer_of_their_own():
    logits = jnp.asarray([[1.0, 2.0, 3.0], [jnp.inf, 0.0, jnp.nan]])
    outputs = FullOutputs(batch={}, logits=logits)
    outputs.log_normalizer()
    masked = outputs.where(jnp.asarray([True, False]))
    expected = [jax.nn.logsumexp(logits[0]), np.log(3.0)]
    np.testing.assert_allclose(masked.log_normalizer(), expected, rtol=1e-6)
