"""Stacked layers beside separate ones: all that a model computes, and what it costs."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from models import MoE, Transformer, sharding
from models.base import REMAT
from models.layers import form_of, is_stacked
from runner.head import flops
from tests.models.inputs import batch, mesh_of
from tests.models.states import (
    SMALL,
    in_both_forms,
    initial_module,
    stacked_values,
)

mixture = functools.partial(MoE, num_experts=4, hidden_dim=8)
ROWS = batch([[5, 3], [8], [2, 6], [4]] * 2)
FIELDS = {
    "moe": {
        "mlp": functools.partial(mixture, num_shared_experts=1),
        "qk_norm": True,
        "attention_window": 3,
        "attention_soft_cap": 2.0,
        "attention_bias": True,
    },
    "dense": {"attention_window": 3, "attention_soft_cap": 2.0, "attention_bias": True},
}

# Values of order one; the compiler may sum a layer in a loop in another order.
assert_same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def loss(model, rows, *, remat="none", capture=frozenset()):
    """Scalar that depends on every logit and every captured entry, and those."""
    trunk = model.trunk(rows, capture=capture, remat=remat)
    logits = model.head(trunk.hidden)
    total = jnp.mean(jnp.sin(logits), where=rows["mask"][..., None])
    for value in trunk.intermediates.values():
        if jnp.issubdtype(value.dtype, jnp.inexact):
            total += jnp.mean(jnp.sin(value))
    return total, (logits, trunk.intermediates)


def values_and_gradients(model, **options):
    """(total, (logits, captured)), gradients as nested dicts with stacked layers."""
    graph, params = nnx.split(model)

    def of_params(params):
        return loss(nnx.merge(graph, params), ROWS, **options)

    params = nnx.to_pure_dict(params)
    outputs, grads = jax.jit(jax.value_and_grad(of_params, has_aux=True))(params)
    if form_of(grads) == "separate":
        grads = stacked_values(grads)
    return outputs, grads


@functools.cache
def separate_values_and_gradients(name, remat):
    separate, _ = in_both_forms(**FIELDS[name])
    return values_and_gradients(separate, remat=remat, capture=separate.offers())


FAST = ("moe", "dots")
OTHERS = [case for case in itertools.product(FIELDS, REMAT) if case != FAST]


@pytest.mark.parametrize(
    ("name", "remat"),
    [FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)],
)
def test_both_forms_compute_the_same(name, remat):
    separate, stacked = in_both_forms(**FIELDS[name])
    assert separate.offers() == stacked.offers()
    outputs = values_and_gradients(stacked, remat=remat, capture=separate.offers())
    jax.tree.map(assert_same, outputs, separate_values_and_gradients(name, remat))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["stacked", "separate"])
def test_a_mesh_computes_the_same(form):
    separate, stacked = in_both_forms(**FIELDS["moe"])
    graph, state = nnx.split(stacked if form == "stacked" else separate)
    mesh = mesh_of(fsdp=2, tensor=2, expert=2)
    placed = jax.device_put(
        nnx.to_pure_dict(state), sharding.parameter_shardings(state, mesh)
    )
    with sharding.use(mesh):
        outputs = values_and_gradients(
            nnx.merge(graph, placed), remat="dots", capture=separate.offers()
        )
    jax.tree.map(assert_same, outputs, separate_values_and_gradients("moe", "dots"))


def test_a_path_of_one_layer_is_captured_alone():
    separate, stacked = in_both_forms(num_layers=3, mlp=mixture)
    paths = frozenset({"hidden/1", "router_assignments/2"})
    expected, captured = (
        jax.jit(lambda m: m.trunk(ROWS, capture=paths).intermediates)(model)
        for model in (separate, stacked)
    )
    assert captured.keys() == paths
    jax.tree.map(assert_same, captured, expected)


@pytest.mark.parametrize(
    "mlp",
    [pytest.param({"mlp": mixture}, marks=pytest.mark.slow), {}],
    ids=["moe", "dense"],
)
def test_both_forms_start_alike(mlp):
    fields = SMALL | {"qk_norm": True} | mlp
    separate, stacked = (
        nnx.to_pure_dict(nnx.state(initial_module(Transformer, **fields, layers=form)))
        for form in ("separate", "stacked")
    )
    # As on another mesh: compilers may round `erfinv` differently.
    assert_alike = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(assert_alike, stacked, stacked_values(separate))


def test_each_device_holds_all_stacked_layers():
    stacked = nnx.eval_shape(
        lambda: Transformer(**SMALL, layers="stacked", rngs=nnx.Rngs(0))
    )
    places = sharding.parameter_shardings(
        nnx.state(stacked), mesh_of(data=2, fsdp=2, tensor=2)
    )
    block = places["blocks"]["stacked"]
    specs = {
        "query": block["attention"]["query"].spec,
        "down": block["mlp"]["down"].spec,
        "norm": block["mlp_norm"]["scale"].spec,
    }
    assert specs == {
        "query": PartitionSpec(None, "fsdp", "tensor"),
        "down": PartitionSpec(None, "tensor", "fsdp"),
        "norm": PartitionSpec(),
    }


def test_a_rule_may_spread_the_layers():
    stacked = nnx.eval_shape(
        lambda: Transformer(**SMALL, layers="stacked", rngs=nnx.Rngs(0))
    )
    placed = sharding.parameter_shardings(
        nnx.state(stacked), mesh_of(data=2), {"layers": ("data",)}
    )
    scale = placed["blocks"]["stacked"]["mlp_norm"]["scale"]
    assert scale.spec == PartitionSpec("data")
    assert placed["norm"]["scale"].spec == PartitionSpec()


def equations(jaxpr):
    """Number of equations of a jaxpr and of all within it."""
    inner_jaxprs = [inner for e in jaxpr.eqns for inner in flops.inner_jaxprs(e.params)]
    return len(jaxpr.eqns) + sum(map(equations, inner_jaxprs))


def equations_of_a_gradient(num_layers, *, layers, remat):
    def make():
        fields = SMALL | {"num_layers": num_layers, "mlp": mixture}
        return Transformer(**fields, layers=layers, rngs=nnx.Rngs(0))

    graph, params = nnx.split(nnx.eval_shape(make))

    def of_params(params):
        model = nnx.merge(graph, params)
        capture = frozenset({"hidden", "router_logits"})
        return loss(model, ROWS, remat=remat, capture=capture)[0]

    gradient = jax.make_jaxpr(jax.grad(of_params))(params)
    created = jax.make_jaxpr(lambda: nnx.state(make()))()
    return equations(gradient.jaxpr), equations(created.jaxpr)


@pytest.mark.parametrize(
    "remat",
    [
        "dots",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "full")),
    ],
)
def test_the_program_does_not_grow_with_depth(remat):
    count = functools.partial(equations_of_a_gradient, remat=remat)
    assert count(48, layers="stacked") == count(4, layers="stacked")
    for deep, shallow in zip(
        count(4, layers="separate"), count(2, layers="separate"), strict=True
    ):
        assert deep > 1.5 * shallow


def test_matmuls_of_all_layers_are_counted():
    def cost(model):
        return flops.matmul_flops(lambda m: m.trunk(ROWS).hidden, model)

    separate, stacked = in_both_forms(num_layers=3)
    assert cost(stacked) == cost(separate) > 0


def test_an_unknown_form_is_named_beside_the_known():
    with pytest.raises(
        ValueError, match=r"layers must be one of \['separate', 'stacked'\], got 'x'"
    ):
        Transformer(**SMALL, layers="x", rngs=nnx.Rngs(0))


def test_stacked_parameters_are_recognized_by_their_path():
    assert is_stacked(["student", "blocks", "stacked", "mlp", "up"])
    assert not is_stacked(["student", "blocks", "3", "mlp", "up"])
    assert not is_stacked(["losses", "stacked", "matrix"])
    assert not is_stacked(["losses", "blocks", "own", "stacked"])
