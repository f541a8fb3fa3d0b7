"""Logits are products of a user's vector with each item's."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import MatrixFactorization


def test_logits_are_products_and_an_unknown_user_has_none():
    model = MatrixFactorization(num_users=3, num_items=4, dim=2, rngs=nnx.Rngs(0))
    users = jnp.array([[2, 0], [1, 3], [-1, 1]])
    logits = np.asarray(model.head(model.trunk({"users": users}).hidden))
    p, q = (np.asarray(x[...]) for x in (model.users, model.items))
    np.testing.assert_allclose(logits[0], p[[2, 0]] @ q.T, rtol=1e-5)
    assert np.all(np.isnan(logits[[1, 2], [1, 0]]))
