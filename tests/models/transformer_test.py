import functools
import math
import typing

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import log_softmax

from models import MoE, Transformer
from models.base import REMAT, Model
from models.decoding.generate import generate
from models.layers import SeparateLayers
from models.tags import DType, ParamDType
from tests.models.inputs import VOCAB, batch
from tests.models.states import (
    SMALL,
    in_both_forms,
    initial_module,
    transformer,
)

mixture = functools.partial(MoE, num_experts=3, hidden_dim=8)


@jax.jit
def logits(model, rows):
    return model.head(model.trunk(rows).hidden)


def test_a_packed_row_is_its_documents_on_their_own():
    model = transformer(mlp=mixture)
    packed = batch([[4, 4]])
    apart = batch([[4], [4]])
    apart["tokens"] = packed["tokens"].reshape(2, 4)
    np.testing.assert_allclose(
        logits(model, packed).reshape(2, 4, VOCAB), logits(model, apart), atol=1e-5
    )


def test_a_later_token_leaves_earlier_logits_alone():
    model, rows = transformer(mlp=mixture), batch([[8]])
    changed = rows | {"tokens": rows["tokens"].at[0, 4].add(1)}
    before, after = logits(model, rows), logits(model, changed)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(axis=-1).all()


def test_padding_is_finite_and_changes_nothing():
    model = transformer()
    padded, whole = batch([[3], [6]]), batch([[3]])
    whole["tokens"] = padded["tokens"][:1, :3]
    outputs = logits(model, padded)
    assert jnp.isfinite(outputs).all()
    np.testing.assert_allclose(outputs[:1, :3], logits(model, whole), atol=1e-6)


def test_a_tied_head_is_the_embedding():
    model = transformer(tie_head=True, num_layers=1)
    hidden = jax.random.normal(jax.random.key(0), (5, 16))
    np.testing.assert_allclose(
        model.head(hidden), hidden @ model.embedding[...].T, atol=1e-6
    )
    assert "output" not in nnx.state(model)


def test_the_soft_cap_bounds_logits():
    hidden = 1e3 * jax.random.normal(jax.random.key(0), (5, 16))
    plain, capped = (
        transformer(num_layers=1),
        transformer(num_layers=1, logit_soft_cap=3.0),
    )
    np.testing.assert_allclose(
        capped.head(hidden), 3 * np.tanh(plain.head(hidden) / 3), rtol=1e-5
    )


def test_the_embedding_scale_multiplies_embeddings():
    tokens = batch([[4]])["tokens"]
    plain, scaled = (
        transformer(num_layers=1),
        transformer(num_layers=1, embedding_scale=4.0),
    )
    positions = jnp.zeros_like(tokens)
    expected = 4 * plain.embed(tokens, positions)
    np.testing.assert_allclose(scaled.embed(tokens, positions), expected)


def test_both_halves_of_a_parallel_block_read_the_same():
    model = transformer(num_layers=1, residual="parallel", norm="layer")
    block = typing.cast(SeparateLayers, model.blocks)[0]
    x = jax.random.normal(jax.random.key(0), (1, 3, 16))
    of_attention = block.attention(block.attention_norm(x), None, None)
    of_mlp, _ = block.mlp(block.mlp_norm(x))
    y, _ = block(x, None, None)
    np.testing.assert_allclose(y, x + of_attention + of_mlp, rtol=1e-6, atol=1e-6)


def test_learned_positions_are_added_and_end():
    model = transformer(num_layers=1, learned_positions=4)
    plain = transformer(num_layers=1)
    tokens, positions = jnp.array([[5, 5, 5]]), jnp.array([[0, 3, 1]])
    added = model.embed(tokens, positions) - plain.embed(tokens, positions)
    assert model.positions is not None
    np.testing.assert_allclose(added[0], model.positions[...][positions[0]], atol=1e-6)
    with pytest.raises(ValueError, match="rows of 5 tokens are longer than learned_po"):
        logits(model, batch([[3, 2]]))
    with pytest.raises(ValueError, match="rows of 6 tokens are longer than learned_po"):
        generate(model, jnp.array([[1, 2]]), num_tokens=4)


@pytest.mark.parametrize("leading", [(), (6,), (2, 3)])
def test_the_head_takes_any_leading_axes(leading):
    model = transformer(num_layers=1)
    hidden = jax.random.normal(jax.random.key(0), (6, 16))
    hidden = hidden[0] if leading == () else hidden.reshape(*leading, 16)
    assert model.head(hidden).shape == (*leading, VOCAB)


def test_bfloat16_computes_in_bfloat16_and_returns_float32():
    wide = transformer(mlp=mixture, num_layers=1)
    narrow = transformer(mlp=mixture, dtype="bfloat16", num_layers=1)
    rows = batch([[5, 2]])
    trunk = nnx.eval_shape(lambda model: model.trunk(rows), narrow)
    assert trunk.hidden.dtype == jnp.bfloat16
    assert {p.dtype for p in jax.tree.leaves(nnx.state(narrow))} == {
        jnp.dtype("float32")
    }
    outputs = logits(narrow, rows)
    assert outputs.dtype == jnp.float32
    np.testing.assert_allclose(outputs, logits(wide, rows), atol=0.05)


def test_parameters_may_be_bfloat16():
    model = transformer(mlp=mixture, param_dtype="bfloat16", attention_bias=True)
    assert {p.dtype for p in jax.tree.leaves(nnx.state(model))} == {
        jnp.dtype("bfloat16")
    }


@pytest.mark.parametrize("mlp", [None, mixture], ids=["dense", "moe"])
def test_capture_returns_each_path_of_offers(mlp):
    model = transformer(**({} if mlp is None else {"mlp": mlp}))
    rows = batch([[5, 2], [3]])
    trunk = jax.jit(lambda m: m.trunk(rows, capture=model.offers()))(model)
    assert trunk.intermediates.keys() == model.offers()
    hidden = trunk.intermediates["hidden"]
    assert hidden.shape == (2, 7, 2, 16)
    np.testing.assert_array_equal(hidden[:, :, 1], trunk.intermediates["hidden/1"])
    np.testing.assert_allclose(model.norm(hidden[:, :, 1]), trunk.hidden, rtol=1e-6)
    assert trunk.intermediates["attention"].shape == (2, 7, 2, 4, 7)
    assert trunk.intermediates["queries/0"].shape == (2, 7, 4, 4)
    assert trunk.intermediates["keys"].shape == (2, 7, 2, 2, 4)
    if mlp is not None:
        assert trunk.intermediates["router_logits"].shape == (2, 7, 2, 3)
        assert trunk.intermediates["router_assignments"].shape == (2, 7, 2, 2)
    assert jax.jit(lambda m: m.trunk(rows))(model).intermediates == {}


def test_scores_are_captured_only_on_request():
    graph, state = nnx.split(transformer(num_layers=1))
    rows = batch([[5, 2]])

    def jaxpr(capture):
        def trunk(state):
            return nnx.merge(graph, state).trunk(rows, capture=frozenset(capture))

        return str(jax.make_jaxpr(trunk)(state))

    plain, with_scores = jaxpr([]), jaxpr(["attention/0"])
    assert "inf:f32" not in plain and "-inf:f32" in with_scores
    assert jaxpr(["values/0"]).count("dot_general[") == plain.count("dot_general[")


# Slow: `layers_test.test_both_forms_compute_the_same` captures all paths too.
@pytest.mark.slow
@pytest.mark.parametrize("remat", sorted(REMAT))
def test_intermediates_are_the_same_in_both_forms_of_layers(remat):
    separate, stacked = in_both_forms(num_layers=3)
    rows = batch([[5, 2], [3]])

    @jax.jit
    def captured(model):
        capture = model.offers()
        return model.trunk(rows, capture=capture, remat=remat).intermediates

    outputs, expected = captured(stacked), captured(separate)
    assert outputs.keys() == expected.keys()
    for path, x in expected.items():
        np.testing.assert_allclose(outputs[path], x, rtol=1e-5, atol=1e-5, err_msg=path)


def test_an_unknown_path_is_named_beside_the_offers():
    with pytest.raises(ValueError, match=r"no intermediate 'hidden/2'; .* hidden/1"):
        transformer().trunk(batch([[2]]), capture=frozenset({"hidden/2"}))


def remat_loss(state, graph, remat):
    hidden = nnx.merge(graph, state).trunk(batch([[5, 2]]), remat=remat).hidden
    return jnp.sum(jnp.sin(hidden))


def test_remat_recomputes_matmuls():
    graph, state = nnx.split(transformer(mlp=mixture, num_layers=1))

    def matmuls(remat):
        gradient = jax.grad(functools.partial(remat_loss, graph=graph, remat=remat))
        return str(jax.make_jaxpr(gradient)(state)).count("dot_general[")

    assert matmuls("none") < matmuls("dots") < matmuls("full")


@pytest.mark.parametrize(
    "remat", ["full", pytest.param("dots", marks=pytest.mark.slow)]
)
def test_remat_leaves_the_gradient_alone(remat):
    graph, state = nnx.split(transformer(mlp=mixture, num_layers=1))

    @functools.partial(jax.jit, static_argnums=1)
    def step(state, remat):
        return jax.value_and_grad(remat_loss)(state, graph, remat)

    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, step(state, remat), step(state, "none"))


def test_an_unknown_remat_is_named_beside_the_known():
    with pytest.raises(ValueError, match=r"one of \['dots', 'full', 'none'\], got 'x'"):
        transformer(num_layers=1).trunk(batch([[2]]), remat="x")


def test_parameters_counted_by_hand():
    model = nnx.eval_shape(
        lambda: Transformer(
            vocab_size=10,
            dim=8,
            num_layers=3,
            num_heads=4,
            num_kv_heads=2,
            head_dim=6,
            attention_bias=True,
            qk_norm=True,
            mlp=functools.partial(
                MoE, num_experts=5, hidden_dim=7, num_shared_experts=2
            ),
            rngs=nnx.Rngs(0),
        )
    )
    attention = 8 * 6 * (4 + 2 + 2) + 4 * 6 * 8 + 6 * (4 + 2 + 2) + 2 * 6
    experts = 8 * 5 + 5 * 3 * 8 * 7 + 3 * 8 * 14
    total = 2 * 10 * 8 + 3 * (attention + experts + 2 * 8) + 8
    count = sum(math.prod(p.shape) for p in jax.tree.leaves(nnx.state(model)))
    assert count == total


def test_it_starts_near_the_uniform_distribution():
    model = initial_module(Transformer, **(SMALL | {"dim": 64}))
    rows = batch([[32]] * 4)
    log_probabilities = log_softmax(np.asarray(logits(model, rows)), axis=-1)
    picked = np.take_along_axis(log_probabilities, rows["targets"][..., None], 2)
    assert -np.mean(picked) == pytest.approx(math.log(VOCAB), abs=0.05)


def test_residual_writes_start_smaller_with_depth():
    def sizes(num_layers):
        fields = SMALL | {"dim": 64, "num_layers": num_layers, "layers": "stacked"}
        block = initial_module(Transformer, **fields).blocks.samples[0]
        kernels = block.attention.output, block.mlp.down
        return np.array([np.std(np.asarray(kernel[...])) for kernel in kernels])

    np.testing.assert_allclose(sizes(4), sizes(1) / 2, rtol=0.02)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_heads": 6, "dim": 24}, "divisible by num_kv_heads, got 6 and 4"),
        ({"dim": 18}, "divisible by num_heads .* got 18 and 4"),
        ({"head_dim": 3}, "head_dim must be positive and even, got 3"),
        ({"num_layers": 0}, "num_layers must be positive, got 0"),
        ({"logit_soft_cap": -1.0}, "logit_soft_cap must be positive, got -1.0"),
        ({"dtype": "float8"}, "dtype must be one of .* got 'float8'"),
        ({"rope_layout": "neox"}, "rope_layout must be one of .* got 'neox'"),
        ({"norm_placement": "before"}, "norm_placement must be one of .* got 'before'"),
        ({"qk_norm_over": "all"}, "qk_norm_over must be one of .* got 'all'"),
        ({"logit_divisor": 0.0}, "logit_divisor must be positive, got 0.0"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(fields, message):
    with pytest.raises(ValueError, match=message):
        transformer(**({"num_heads": 4, "num_kv_heads": 4} | fields))


def test_a_model_without_a_head_cannot_be_built():
    class Headless(Model):
        def trunk(self, batch, *, capture=frozenset(), remat="none"):
            raise NotImplementedError

    def build(kind: type[Model]):
        return kind()

    with pytest.raises(TypeError, match="abstract"):
        build(Headless)


def test_a_graph_reaches_the_layers_and_the_numbers():
    student = fdl.Partial(
        Transformer, vocab_size=8, dim=8, num_layers=1, mlp=fdl.Partial(MoE)
    )
    student.mlp.num_experts = 3
    fdl.set_tagged(student, tag=DType, value="bfloat16")
    fdl.set_tagged(student, tag=ParamDType, value="bfloat16")
    model = nnx.eval_shape(lambda: fdl.build(student)(rngs=nnx.Rngs(0)))
    assert model.dtype == "bfloat16"
    assert model.blocks.samples[0].mlp.gate.shape == (3, 8, 32)
    assert model.embedding.dtype == jnp.bfloat16
