import functools
import math

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import MoE, Transformer
from models.base import REMAT, Model
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
    model, rows = transformer(mlp=mixture), batch([[7]])
    changed = rows | {"tokens": rows["tokens"].at[0, 4].add(1)}
    before, after = logits(model, rows), logits(model, changed)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(axis=-1).all()


def test_padding_is_finite_and_changes_nothing():
    model = transformer()
    padded, whole = batch([[3], [6]]), batch([[3]])
    whole["tokens"] = padded["tokens"][:1, :3]
    got = logits(model, padded)
    assert jnp.isfinite(got).all()
    np.testing.assert_allclose(got[:1, :3], logits(model, whole), atol=1e-6)


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
    np.testing.assert_allclose(scaled.embed(tokens), 4 * plain.embed(tokens))


@pytest.mark.parametrize("leading", [(), (6,), (2, 3)])
def test_the_head_takes_any_leading_axes(leading):
    model = transformer(num_layers=1)
    hidden = jax.random.normal(jax.random.key(0), (6, 16))
    hidden = hidden[0] if leading == () else hidden.reshape(*leading, 16)
    assert model.head(hidden).shape == (*leading, VOCAB)


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32():
    wide = transformer(mlp=mixture, num_layers=1)
    narrow = transformer(mlp=mixture, dtype="bfloat16", num_layers=1)
    rows = batch([[5, 2]])
    trunk = narrow.trunk(rows)
    assert trunk.hidden.dtype == jnp.bfloat16
    assert {p.dtype for p in jax.tree.leaves(nnx.state(narrow))} == {
        jnp.dtype("float32")
    }
    got = logits(narrow, rows)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, logits(wide, rows), atol=0.05)


def test_parameters_may_be_bfloat16():
    model = transformer(mlp=mixture, param_dtype="bfloat16", attention_bias=True)
    assert {p.dtype for p in jax.tree.leaves(nnx.state(model))} == {
        jnp.dtype("bfloat16")
    }


@pytest.mark.parametrize("mlp", [None, mixture], ids=["dense", "moe"])
def test_capture_returns_what_is_offered(mlp):
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


def test_only_what_is_captured_of_the_attention_is_made():
    graph, state = nnx.split(transformer(num_layers=1))
    rows = batch([[5, 2]])

    def jaxpr(capture):
        def trunk(state):
            return nnx.merge(graph, state).trunk(rows, capture=frozenset(capture))

        return str(jax.make_jaxpr(trunk)(state))

    plain, kept = jaxpr([]), jaxpr(["attention/0"])
    assert "inf:f32" not in plain and "-inf:f32" in kept
    assert jaxpr(["values/0"]).count("dot_general[") == plain.count("dot_general[")


@pytest.mark.parametrize("remat", sorted(REMAT))
def test_intermediates_are_the_same_in_both_forms_of_layers(remat):
    separate, stacked = in_both_forms(num_layers=3)
    rows = batch([[5, 2], [3]])

    @jax.jit
    def captured(model):
        capture = model.offers()
        return model.trunk(rows, capture=capture, remat=remat).intermediates

    found, expected = captured(stacked), captured(separate)
    assert found.keys() == expected.keys()
    for path, x in expected.items():
        np.testing.assert_allclose(found[path], x, rtol=1e-5, atol=1e-5, err_msg=path)


def test_an_unknown_path_names_those_there_are():
    with pytest.raises(ValueError, match=r"no intermediate 'hidden/2'; .* hidden/1"):
        transformer().trunk(batch([[2]]), capture=frozenset({"hidden/2"}))


def test_remat_changes_the_work_and_not_the_result():
    graph, state = nnx.split(transformer(mlp=mixture, num_layers=1))
    rows = batch([[5, 2]])

    def loss(state, remat):
        return jnp.sum(jnp.sin(nnx.merge(graph, state).trunk(rows, remat=remat).hidden))

    results, work = {}, {}
    for remat in REMAT:
        step = jax.jit(jax.value_and_grad(loss), static_argnums=1)
        results[remat] = step(state, remat)
        work[remat] = str(jax.make_jaxpr(step, static_argnums=1)(state, remat)).count(
            "dot_general["
        )
    assert work["none"] < work["dots"] < work["full"]
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, results["dots"], results["none"])
    jax.tree.map(close, results["full"], results["none"])


def test_an_unknown_remat_names_those_there_are():
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
    log_probabilities = jax.nn.log_softmax(logits(model, rows))
    picked = jnp.take_along_axis(log_probabilities, rows["targets"][..., None], 2)
    assert -jnp.mean(picked) == pytest.approx(math.log(VOCAB), abs=0.05)


def test_what_writes_into_the_residual_stream_starts_smaller_with_depth():
    def sizes(num_layers):
        fields = SMALL | {"dim": 64, "num_layers": num_layers}
        block = initial_module(Transformer, **fields).blocks[0]
        written = block.attention.output, block.mlp.down
        return np.array([float(jnp.std(kernel[...])) for kernel in written])

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
    assert model.blocks.sample.mlp.gate.shape == (3, 8, 32)
    assert model.embedding.dtype == jnp.bfloat16
