import jax.numpy as jnp
import numpy as np

from runner.step import expert_load


def test_the_load_counts_choices_of_real_tokens():
    seen = {
        "router_logits": jnp.zeros((1, 3, 1, 4)),
        "router_assignments": jnp.array([[[[0, 1]], [[1, 2]], [[3, 3]]]]),
    }
    batch = {"segment_ids": jnp.array([[1, 1, 0]])}
    np.testing.assert_array_equal(expert_load.load(seen, batch), [[1, 2, 1, 0]])


def test_a_balanced_load_has_entropy_one_and_none_unused():
    found = expert_load.summary(jnp.full((2, 4), 5.0))
    np.testing.assert_allclose(found["load_entropy"], 1.0, rtol=1e-6)
    assert found["unused_experts"] == 0


def test_a_collapsed_load_has_entropy_zero():
    found = expert_load.summary(jnp.array([[7.0, 0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(found["load_entropy"], 0.0, atol=1e-6)
    assert found["unused_experts"] == 3


def test_half_the_experts_used_evenly():
    found = expert_load.summary(jnp.array([[6.0, 6.0, 0.0, 0.0]]))
    np.testing.assert_allclose(found["load_entropy"], 0.5, rtol=1e-6)


def test_the_violation_is_how_far_the_fullest_expert_is_above_the_mean():
    """Layers of 1.0 and 0.5 above a mean of 4."""
    found = expert_load.summary(jnp.array([[8.0, 4.0, 4.0, 0.0], [6.0, 4.0, 4.0, 2.0]]))
    np.testing.assert_allclose(found["load_violation"], 0.75, rtol=1e-6)
