import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import MoE
from models.routing.expert_bias import ExpertBias, update
from tests.models.states import in_both_forms, random_module


def test_a_bias_moves_by_the_rate_towards_the_mean_load():
    """Algorithm 1 of Wang et al. by hand: means 4 and 2; who has the mean stays."""
    bias = jnp.array([[0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.25]])
    load = jnp.array([[9.0, 4.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    updated = update(bias, load, rate=0.125)
    np.testing.assert_array_equal(
        updated, [[0.375, 0.0, 0.125, 0.125], [0.0, 0.0, 0.0, 0.25]]
    )


def test_the_bias_selects_experts_and_leaves_gates_alone():
    layer = random_module(MoE, dim=6, num_experts=4, hidden_dim=5, bias_rate=0.1)
    layer.bias[...] = jnp.array([0.0, 0.3, -0.2, 0.1])
    x = jax.random.normal(jax.random.key(0), (7, 6))
    logits, gates, chosen = layer.route(x)
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    order = np.argsort(-(scores + np.array([0.0, 0.3, -0.2, 0.1])), axis=-1)[:, :2]
    assert np.any(order != np.argsort(-scores, axis=-1)[:, :2])
    np.testing.assert_array_equal(chosen, order)
    np.testing.assert_allclose(gates, np.take_along_axis(scores, order, -1), rtol=1e-6)


def test_without_a_rate_there_is_no_bias():
    layer = random_module(MoE, dim=6, num_experts=4, hidden_dim=5)
    assert layer.bias is None and not jax.tree.leaves(nnx.state(layer, ExpertBias))


def test_a_bias_is_no_parameter_in_either_form():
    shapes = []
    for model in in_both_forms(mlp=_biased):
        _, _, rest = nnx.split(model, nnx.Param, ...)
        shapes.append([x.shape for x in jax.tree.leaves(rest)])
    assert shapes == [[(4,), (4,)], [(2, 4)]]


def test_it_balances_a_router_that_favours_two_experts():
    layer = random_module(MoE, dim=6, num_experts=4, hidden_dim=5, bias_rate=0.01)
    layer.router[...] = layer.router[...].at[0].set(jnp.array([2.0, 1.0, 0.0, 0.0]))
    x = jax.random.normal(jax.random.key(0), (256, 6)).at[:, 0].set(1.0)

    def load():
        return np.bincount(np.ravel(layer.route(x)[2]), minlength=4)

    assert load().max() > 1.5 * load().mean()
    for _ in range(80):
        layer.bias[...] = update(
            layer.bias[...], jnp.asarray(load(), jnp.float32), rate=0.01
        )
    assert load().max() < 1.1 * load().mean()


def _biased(**fields):
    return MoE(num_experts=4, hidden_dim=8, bias_rate=0.1, **fields)


@pytest.mark.parametrize("rate", [-0.1, float("inf"), float("nan")])
def test_a_rate_that_is_negative_or_infinite_is_refused(rate):
    with pytest.raises(ValueError, match=f"bias_rate must not be negative.*{rate}"):
        random_module(MoE, dim=6, bias_rate=rate)
