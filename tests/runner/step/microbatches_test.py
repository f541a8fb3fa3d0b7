"""Sums over microbatches."""

import jax.numpy as jnp
import numpy as np

from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.step.microbatches import accumulate


def test_bfloat16_gradients_of_many_microbatches_are_added_in_float32():
    """256 times 1.0, then 256 times 0.5: in bfloat16 the sum stops at 256."""
    rows = jnp.tile(jnp.repeat(jnp.array([1.0, 0.5], jnp.bfloat16), 256), 8)
    mesh = mesh_lib.make(runtime.Mesh(data=8))
    total = accumulate(lambda x: x[0], rows, count=512, mesh=mesh)
    np.testing.assert_array_equal(total, jnp.float32(384.0))
