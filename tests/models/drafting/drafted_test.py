"""Layers that draft, against NumPy in float64, a token and a text at a time."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from models import Drafted, LoRA, Transformer
from tests.models.states import random_module

TEXTS = [[3, 1, 4, 1, 5], [9, 2, 6]]
BATCH = {
    "tokens": np.int32([TEXTS[0] + TEXTS[1] + [0]]),
    "segment_ids": np.int32([[1] * 5 + [2] * 3 + [0]]),
    "positions": np.int32([[0, 1, 2, 3, 4, 0, 1, 2, 0]]),
}
STEPS, DIM, HEADS = 3, 8, 2
TINY = {"vocab_size": 11, "dim": DIM, "num_layers": 1, "num_heads": HEADS}
PATHS = frozenset(f"draft/{j}" for j in range(1, STEPS + 1))
SLOW = pytest.mark.slow
FORMS = (
    "recurrent",
    pytest.param("sequential", marks=SLOW),
    pytest.param("parallel", marks=SLOW),
)


def make(**fields):
    student = functools.partial(
        Transformer, **TINY, num_kv_heads=1, embedding_scale=2.0
    )
    return random_module(Drafted, model=student, steps=STEPS, **fields)


def normed(x, scale):
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale


def rotated(x, place):
    half = x.shape[-1] // 2
    angle = place * 10_000.0 ** (-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.concatenate([a * cosine - b * sine, b * cosine + a * sine], axis=-1)


class Layer:
    """One decoder layer of float64 arrays, a token at a time."""

    def __init__(self, tree):
        self.tree, self.block = tree, tree["block"]

    def read(self, state, embedded):
        if "mix" not in self.tree:
            return state
        norms = self.tree["state_norm"]["scale"], self.tree["token_norm"]["scale"]
        both = [normed(x, n) for x, n in zip((state, embedded), norms, strict=True)]
        return np.concatenate(both) @ self.tree["mix"]

    def project(self, x, place):
        x = normed(x, self.block["attention_norm"]["scale"])
        heads = self.block["attention"]
        q, k, v = (
            np.einsum("d,dhk->hk", x, heads[n]) for n in ("query", "key", "value")
        )
        return rotated(q, place), rotated(k, place), v

    def __call__(self, x, query, pairs):
        scores = np.array([query @ key[0] for key, _ in pairs]) / np.sqrt(DIM / HEADS)
        weights = np.exp(scores - scores.max(0))
        weights /= weights.sum(0)
        mixed = np.einsum("sh,sk->hk", weights, [value[0] for _, value in pairs])
        x = x + np.einsum("hk,hkd->d", mixed, self.block["attention"]["output"])
        y, mlp = normed(x, self.block["mlp_norm"]["scale"]), self.block["mlp"]
        gate = y @ mlp["gate"]
        return x + (gate / (1 + np.exp(-gate)) * (y @ mlp["up"])) @ mlp["down"]


def by_hand(form, tree, states, embedding):
    """Return `draft/j` by step, of states `[t d]` and a table of embeddings."""
    layers = {k: Layer(v) for k, v in tree["layers"].items()}
    results = {j: np.zeros_like(states) for j in range(1, STEPS + 1)}
    begin = 0
    for text in TEXTS:
        for start in range(len(text)):
            below = {}  # states of the step before, of all tokens up to `start`
            chain = []
            for j in range(1, STEPS + 1):
                if start + j >= len(text):
                    break
                again = form == "recurrent" and j > 1
                layer = layers[0 if form == "recurrent" else j - 1]
                inputs, pairs = {}, []
                for t in [start] if again else range(start + 1):
                    state = states[begin + t]
                    if form != "parallel" and j > 1:
                        state = below[t]
                    inputs[t] = layer.read(state, embedding[text[t + j]])
                    query, *pair = layer.project(inputs[t], t + again * (j - 1))
                    pairs.append(pair)
                    if form != "recurrent":
                        below = {**below, t: layer(inputs[t], query, pairs)}
                chain = [*chain, *pairs] if form == "recurrent" else pairs
                if form == "recurrent":
                    below = {start: layer(inputs[start], query, chain)}
                out = below[start]
                scale = layer.tree["norm"]["scale"]
                results[j][begin + start + j] = normed(out, scale)
        begin += len(text)
    return results


@functools.cache
def drafts(form, **fields):
    """Return a model's parameters, its drafts, and their slopes."""
    graph, params = nnx.split(make(form=form, **fields))

    @jax.jit
    def run(params):
        def drafted(params):
            outputs = nnx.merge(graph, params).trunk(BATCH, capture=PATHS)
            return outputs.intermediates, outputs.hidden

        drafted, pullback, hidden = jax.vjp(drafted, params, has_aux=True)
        return drafted, hidden, pullback(cotangents)[0]

    draw = np.random.default_rng(0)
    cotangents = {
        p: draw.normal(size=(1, 9, DIM)).astype(np.float32) for p in sorted(PATHS)
    }
    return params, cotangents, *run(params)


@pytest.mark.parametrize("form", FORMS)
def test_a_draft_and_its_slope_are_those_of_a_text_read_token_by_token(form):
    params, cotangents, drafted, hidden, slopes = drafts(form)
    wide = jax.tree.map(np.float64, nnx.to_pure_dict(params))
    embedding = 2.0 * wide["embedding"]

    def value(tree):
        by_step = by_hand(form, tree, np.float64(hidden[0]), embedding)
        return by_step, sum(
            np.sum(x * cotangents[f"draft/{j}"][0]) for j, x in by_step.items()
        )

    by_step, _ = value(wide["draft"])
    for j, expected in by_step.items():
        np.testing.assert_allclose(drafted[f"draft/{j}"][0], expected, atol=2e-5)

    draw = np.random.default_rng(1)
    direction = jax.tree.map(lambda x: draw.normal(size=x.shape), wide["draft"])
    ends = [
        value(jax.tree.map(lambda x, d, s=s: x + s * d, wide["draft"], direction))[1]
        for s in (1e-6, -1e-6)
    ]
    own = nnx.to_pure_dict(slopes)["draft"]
    along = sum(
        np.vdot(d, x)
        for d, x in zip(jax.tree.leaves(direction), jax.tree.leaves(own), strict=True)
    )
    np.testing.assert_allclose(along, (ends[0] - ends[1]) / 2e-6, rtol=2e-4)
    assert np.any(nnx.to_pure_dict(slopes)["embedding"])


@SLOW
def test_constant_states_send_no_slope_into_the_student():
    *_, slopes = drafts("recurrent", states="constant", of=(0,))
    slopes = nnx.to_pure_dict(slopes)
    assert np.any(slopes.pop("draft")["fuse"])
    assert not any(np.any(x) for x in jax.tree.leaves(slopes))


def test_a_model_that_cannot_draft_is_named():
    with pytest.raises(ValueError, match=r"layers in 0\.\.0, got 2"):
        make(of=(2,))
    adapted = functools.partial(LoRA, model=functools.partial(Transformer, **TINY))
    with pytest.raises(ValueError, match="let LoRA be around Drafted"):
        nnx.eval_shape(lambda: Drafted(model=adapted, rngs=nnx.Rngs(0)))
