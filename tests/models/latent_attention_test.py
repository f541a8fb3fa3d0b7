"""Attention over latents, and layers of which the first are of another kind."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

import models
from models import GatedMLP, Latents, MoE, Transformer
from models.kernels import blocked_attention
from models.kernels.packing import Packing
from runner.state.split_module import SplitModule
from runner.weights.published import PublishedWeights
from tests.models.pretrained.tables import FIXTURES

LATENTS = Latents(kv_rank=6, plain_dim=4, rope_dim=2, value_dim=3)
SMALL = functools.partial(
    Transformer, vocab_size=8, dim=8, num_layers=3, num_heads=2, latents=LATENTS
)
MIXED = functools.partial(
    SMALL,
    mlp=functools.partial(MoE, num_experts=4, hidden_dim=4),
    first_mlp=functools.partial(GatedMLP, hidden_dim=4),
    first_layers=1,
)


def test_layers_without_experts_have_no_router_to_capture():
    model = nnx.eval_shape(lambda: MIXED(rngs=nnx.Rngs(0)))
    ids = jax.ShapeDtypeStruct((1, 5), jnp.int32)
    rows = dict.fromkeys(("tokens", "segment_ids", "positions"), ids)
    names = frozenset({"router_logits", "router_logits/2", "hidden", "values/0"})
    assert "router_logits/0" not in model.offers()
    assert "router_logits/1" in model.offers()
    trunk = functools.partial(Transformer.trunk, capture=names)
    shapes = jax.eval_shape(trunk, model, rows).intermediates
    assert {name: x.shape for name, x in shapes.items()} == {
        "router_logits": (1, 5, 2, 4),
        "router_logits/2": (1, 5, 4),
        "hidden": (1, 5, 3, 8),
        "values/0": (1, 5, 2, 3),
    }


def test_fields_that_have_no_meaning_are_refused():
    for fields, message in [
        ({"qk_norm": True}, "latents have no qk_norm: leave it out"),
        ({"num_kv_heads": 1}, "latents have no num_kv_heads"),
        ({"first_layers": 2}, "from 1 to num_layers .3. beside a first_mlp, .*got 2"),
        (
            {"first_layers": 1, "first_mlp": MoE, "layers": "stacked"},
            "first_layers are of another kind: layers='separate'",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            SMALL(**fields, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_blocks_of_narrower_values_have_the_gradients_of_whole_rows():
    draw = np.random.default_rng(0)
    shapes = [(1, 20, 4, 6), (1, 20, 2, 6), (1, 20, 2, 3), (1, 20, 4, 3)]
    *inputs, weights = (jnp.asarray(np.float32(draw.normal(size=s))) for s in shapes)
    ids = jnp.ones((1, 20), jnp.int32)

    def blocks(query, key, value):
        packing = Packing.of(ids, None, block=8)
        return jnp.sum(weights * blocked_attention.attend(query, key, value, packing))

    def whole(query, key, value):
        key, value = (jnp.repeat(x, 2, axis=2) for x in (key, value))
        scores = jnp.einsum("bthd,bshd->bhts", query, key)
        scores = jnp.where(jnp.tril(jnp.ones((20, 20), bool)), scores, -jnp.inf)
        mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), value)
        return jnp.sum(weights * mixed)

    ours, theirs = (
        jax.jit(jax.value_and_grad(f, (0, 1, 2)))(*inputs) for f in (blocks, whole)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), ours, theirs)


def test_a_cache_of_latents_gives_what_keys_and_values_give():
    widths = Latents(kv_rank=6, query_rank=5, plain_dim=4, rope_dim=2, value_dim=3)
    model: Any = models.LoRA(
        model=functools.partial(SMALL, latents=widths, num_layers=1),
        targets="*/attention/key_value",
        rank=2,
        rngs=nnx.Rngs(0),
    )
    attention, draw = model.blocks[0].attention, np.random.default_rng(0)
    for name in ("a", "b"):
        factor = getattr(attention.adapters.key_value, name)
        factor[...] = jnp.asarray(np.float32(draw.normal(size=factor.shape)))
    x = jnp.asarray(np.float32(draw.normal(size=(2, 5, 8))))
    positions = jnp.tile(jnp.arange(5), (2, 1))
    rotation = model.rotation(positions, model.attention_kinds[0], jnp.array([5, 5]))
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((5, 5), bool)), (2, 5, 5))

    @jax.jit
    def both(x):
        query, *held = attention.project_cached(x, rotation)
        held = (jnp.moveaxis(part, 1, 2) for part in held)
        expected = attention.attend(*attention.project(x, rotation), mask)
        return attention.attend_cached(query, *held, mask), expected

    np.testing.assert_allclose(*both(x), atol=2e-5)
    assert model.cached == (1, 8, 0)


def test_a_teacher_has_the_published_biases_of_experts():
    weights = PublishedWeights(str(FIXTURES / "deepseek_v3"))
    module = nnx.eval_shape(lambda: weights.model(rngs=nnx.Rngs(0)))
    params, variables = SplitModule.of(module).arrays()
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        {"params": params, "variables": variables},
    )
    bias = weights.read(abstract)["variables"]["blocks"]["1"]["mlp"]["bias"]
    stored = load_file(FIXTURES / "deepseek_v3" / "model.safetensors")
    name = "model.layers.1.mlp.gate.e_score_correction_bias"
    np.testing.assert_array_equal(bias, stored[name])
    assert np.any(stored[name])
