"""Functions that take a mask: what it leaves out may hold anything."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from losses import functional as F

IDS = np.array([0, 1, 1, 0])
COUNTED = {
    "cka": lambda x, y, m: F.cka(x, y, m),
    "intra_class": lambda x, y, m: F.intra_class_correlation(x, y, m),
    "logit_graph": lambda x, y, m: F.logit_graph(x, y, m, best=2)[m],
    "any_loss": lambda x, y, m: F.any_loss(x, IDS, m, sharpness=5.0),
    "over_groups": lambda x, y, m: F.over_groups(x[:, 0], IDS, m, num_groups=2),
    "bag_loss": lambda x, y, m: F.bag_loss(x, IDS, IDS, m, num_bags=2),
    "similarity": lambda x, y, m: F.similarity_preserving(x, y, m),
    "relational": lambda x, y, m: F.relational_distance(x, y, m),
    "angles": lambda x, y, m: F.relational_angle(x, y, m),
    "probabilistic": lambda x, y, m: F.probabilistic_transfer(x, y, m),
    "info_nce": lambda x, y, m: F.info_nce(x, y, m, alpha=0.5, similar=(x, y)),
    "image_text_kl": lambda x, y, m: F.image_text_kl(x, y, x, m),
}


THERE = np.array([True, True, False, True])


@functools.cache
def with_and_without_poison():
    """Values and gradients of all of `COUNTED`, twice; of one program."""
    other = np.cos(np.arange(12.0, dtype=np.float32)).reshape(4, 3)
    x = np.sin(np.arange(12.0, dtype=np.float32)).reshape(4, 3)

    @jax.jit
    def program(x):
        return {
            name: jax.value_and_grad(lambda x, f=f: jnp.sum(f(x, other, THERE)))(x)
            for name, f in COUNTED.items()
        }

    return program(x), program(np.where(THERE[:, None], x, np.float32(np.nan)))


@pytest.mark.parametrize("name", COUNTED)
def test_what_does_not_count_may_hold_anything_and_has_no_gradient(name):
    clean, poisoned = with_and_without_poison()
    value, gradient = (np.asarray(x) for x in clean[name])
    of_poison, gradient_of_poison = (np.asarray(x) for x in poisoned[name])
    np.testing.assert_array_equal(of_poison, value)
    np.testing.assert_array_equal(gradient_of_poison, gradient)
    assert not np.any(gradient_of_poison[2]) and np.any(gradient)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 1.0), (3.0, 3.0)])
def test_of_two_rows_the_only_negative_has_the_weight_one(alpha, beta):
    q, k = np.random.default_rng(3).normal(size=(2, 2, 3))
    scores = q @ k.T / 0.5
    expected = np.mean(np.log(np.exp(scores).sum(-1)) - np.diag(scores))
    value = F.info_nce(
        jnp.float32(q),
        jnp.float32(k),
        temperature=0.5,
        similar=(jnp.float32(k), jnp.float32(q)),
        alpha=alpha,
        beta=beta,
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
