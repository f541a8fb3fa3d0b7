"""Awkward situations of optimisers, draws, bytes, images and evidence, by seed.

    python -m pytest -m slow tests/runner/hunt_test.py

Held to float64 NumPy, or to scipy 1.17.1.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import LossTerm
from models.decoding import draws
from models.layers import matrix_axes
from models.vision.images import standardize
from models.vision.transformer import patches
from runner import KeepBest, optimizers, runtime
from runner.data import TextFiles, TokenizedText, TokenizerFile
from runner.evidence import intervals
from tests import heads
from tests.runner.data.text.tiny_tokenizers import byte_fallback, byte_level

pytestmark = pytest.mark.slow

RATE, DECAY, RMS, BETA = 0.03, 0.1, 0.2, 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024


def matrices():
    """Return parameters of blocks: heads apart, experts, stacked layers, odd shapes."""
    one = {
        "attention": {"query": (6, 2, 3), "key": (6, 1, 3), "output": (2, 3, 6)},
        "mlp": {"gate": (6, 10), "down": (10, 6), "router": (6, 2)},
    }
    experts = {"up": (3, 6, 4), "down": (3, 4, 6)}
    blocks = {"0": one, "1": {"mlp": experts}}
    stacked = {"stacked": jax.tree.map(lambda s: (2, *s), one, is_leaf=is_shape)}
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32),
        {"a": {"blocks": blocks}, "b": {"blocks": stacked}},
        is_leaf=is_shape,
    )


def is_shape(x):
    return isinstance(x, tuple)


def rank_one(x):
    flat = x.reshape(-1, x.shape[-1])
    return np.outer(flat[:, 0], flat[0]).reshape(x.shape)


GRADIENTS = {
    "plain": lambda x, step: x,
    "tiny": lambda x, step: 1e-6 * x,
    "huge": lambda x, step: 1e15 * x,
    "rank one": lambda x, step: rank_one(x),
    "one entry": lambda x, step: x * (np.arange(x.size) == 1).reshape(x.shape),
    "only first": lambda x, step: x * (step == 0),
    "turning": lambda x, step: x * (-1) ** step,
    "growing": lambda x, step: x * 100.0**step,
}


def muon_by_hand(x, gradients):
    """Return `x` `[n m]` after Muon's steps, Nesterov momentum without bias."""
    momentum = np.zeros_like(x)
    for i, g in enumerate(gradients, 1):
        momentum = BETA * momentum + (1 - BETA) * g
        m = BETA * momentum / (1 - BETA ** (i + 1)) + (1 - BETA) * g / (1 - BETA**i)
        m = m / (np.linalg.norm(m) + 1e-8)
        for _ in range(5):
            a = m @ m.T
            c0, c1, c2 = NEWTON_SCHULZ
            m = c0 * m + (c1 * a + c2 * a @ a) @ m
        x = x - RATE * (RMS * math.sqrt(max(x.shape)) * m + DECAY * x)
    return x


@functools.cache
def muon_step():
    optimizer = optimizers.muon(RATE, max_norm=1e30)

    @jax.jit
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optimizers.apply_updates(params, updates), state

    return optimizer.init, step


@pytest.mark.parametrize("kind", GRADIENTS)
def test_muon_of_every_matrix_of_a_tree(kind):
    init, step = muon_step()
    params, rng = matrices(), np.random.default_rng(1)
    steps = []
    for i in range(3):
        of_kind = functools.partial(GRADIENTS[kind], step=i)
        normal = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
        steps.append(jax.tree.map(lambda x, f=of_kind: np.float32(f(x)), normal))
    state, after = init(params), params
    for grads in steps:
        after, state = step(after, state, grads)
    sides = jax.tree.leaves(matrix_axes(params), is_leaf=optimizers.is_axes)
    leaves = [jax.tree.leaves(tree) for tree in (params, after, *steps)]
    for axes, x, result, *gradients in zip(sides, *leaves, strict=True):
        rows = math.prod(x.shape[i] for i in axes.inputs)
        columns = math.prod(x.shape[i] for i in axes.outputs)
        flat = (-1, rows, columns)
        each = zip(
            *(np.asarray(y, np.float64).reshape(flat) for y in (x, *gradients)),
            strict=True,
        )
        expected = np.stack([muon_by_hand(a, b) for a, *b in each])
        np.testing.assert_allclose(
            result.reshape(flat), expected, rtol=2e-3, atol=2e-5, err_msg=f"{x.shape}"
        )


# Gradients of the logits by hand: those below the threshold are nothing.
SIZE = heads.Size(tokens=24, dim=8, vocabulary=160)
CUTS = {
    "whole": runtime.Head(),
    "fast": heads.in_blocks(7, SIZE.vocabulary),
    "lean": heads.in_tiles(50),
}
TERMS = (
    LossTerm(name="ce", loss=losses.CrossEntropy(), weight=0.7),
    LossTerm(name="z", loss=losses.ZLoss(), weight=-0.01),
)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("share", [2.0**-12, 0.05])
def test_the_gradient_filter_by_hand(cut, share):
    step = jax.jit(heads.step(SIZE, TERMS, head=CUTS[cut], gradient_filter=share))
    for seed, scale in enumerate([1e-3, 0.3, 1.0, 5.0, 40.0]):
        some = heads.content(SIZE, seed=seed)
        mask = np.random.default_rng(seed).random((1, SIZE.tokens)) < 0.6
        student = some["student"] | {"hidden": scale * some["student"]["hidden"]}
        batch = some["batch"] | {"mask": jnp.asarray(mask)}
        _, gradients = step(student, some["teacher"], batch)

        # d logits: cross-entropy's and the z-loss's, each by its weight and its count.
        hidden, table = (
            np.asarray(student[name], np.float64) for name in ("hidden", "table")
        )
        logits = hidden[0] @ table.T
        top = logits.max(-1, keepdims=True)
        log_z = top + np.log(np.exp(logits - top).sum(-1, keepdims=True))
        q = np.exp(logits - log_z)
        one_hot = np.eye(SIZE.vocabulary)[np.asarray(batch["targets"][0])]
        count = mask.sum()
        d = 0.7 * (q - one_hot) / count - 0.01 * 2 * log_z * q / count
        d *= mask[0][:, None]
        threshold = share * (0.7 + 0.01) / count
        unsure = np.abs(np.abs(d) - threshold) < 1e-5 * threshold
        d = np.where(np.abs(d) < threshold, 0.0, d)
        room = threshold * unsure.sum() * max(np.abs(hidden).max(), np.abs(table).max())
        for name, expected in (("hidden", d @ table), ("table", d.T @ hidden[0])):
            np.testing.assert_allclose(
                np.squeeze(gradients[name]),
                expected,
                rtol=1e-4,
                atol=2e-6 * np.abs(expected).max() + room,
                err_msg=f"{name}, {scale}",
            )


TEXTS = [
    "",
    "a",
    " ",
    "    ",
    "\n\n\n",
    "\r\n\t\x00\x07",
    " lead and trail  ",
    "\u2581\u2581 the mark itself \u2581",
    "<0x41> and <0xE2> in a text",
    "<unk></s> names of special tokens <s>",
    "caf\u00e9 cafe\u0301",
    "\u0301 alone",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 family",
    "\u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\ufeffmark of the order of bytes",
    "\u2028\u2029\x85\x0b\x0c",
    "\U0010ffff\ufffd\ufffe",
    "x" * 300,
    " " * 33 + "deep",
    "1234567890 " * 7,
]
TOKENIZERS = {
    "fallback": lambda: byte_fallback("<unk>", "</s>"),
    "fallback, prefix": lambda: byte_fallback("<unk>", "</s>", prefix=True),
    "byte-level": lambda: byte_level("</s>", "<unk>"),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("length", [3, 16, 1000])
def test_the_bytes_of_awkward_texts(kind, length, tmp_path):
    TOKENIZERS[kind]().save(str(tmp_path / "tokenizer.json"))
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i:02}.txt").write_bytes(text.encode())
    everything = [*range(len(TEXTS)), "*"]
    for which in everything:
        name = which if which == "*" else f"{which:02}"
        some = TEXTS if which == "*" else TEXTS[which : which + 1]
        if not "".join(some):
            continue
        data = TokenizedText(
            documents=TextFiles(files=[str(tmp_path / f"{name}.txt")]),
            tokenizer=TokenizerFile(str(tmp_path / "tokenizer.json"), end="</s>"),
            sequence_length=length,
        ).load(cache=str(tmp_path / "cache"))
        count = len("".join(some).encode())
        assert data.num_bytes == count, some
        assert data.text_bytes(np.arange(len(data))) == pytest.approx(count), some


@pytest.mark.parametrize("temperature", [1e-30, 0.05, 1.0, 30.0])
@pytest.mark.parametrize("top_k", [None, 1, 7, 5000])
@pytest.mark.parametrize("top_p", [None, 1e-6, 0.5, 0.999, 1.0])
def test_probabilities_of_draws(temperature, top_k, top_p):
    rng, size = np.random.default_rng(0), 1000
    rows = rng.normal(size=(5, size)) * np.array([[0.0], [1e-3], [1.0], [8.0], [60.0]])
    rows[1] += 500.0
    rows[3] = np.round(rows[3])  # ties
    rows[4, ::2] = -np.inf
    rows = rows.astype(np.float32)
    scores = draws.kept_logits(
        jnp.asarray(rows),
        temperature=jnp.float32(temperature),
        top_k=top_k,
        top_p=None if top_p is None else jnp.float32(top_p),
    )
    for row, x in zip(
        np.float64(jax.nn.softmax(scores)), np.float64(rows), strict=True
    ):
        scaled = (x - x.max()) / temperature
        p = np.exp(scaled)
        if top_k is not None and top_k < size:
            p[x < np.sort(x)[-top_k]] = 0.0
        p /= p.sum()
        stays = row > 0.0
        if top_p is not None and top_p < 1.0:
            # The fewest of the most probable, to what float32 tells of a sum.
            mass, least = p[stays].sum(), p[stays].min()
            assert p[~stays].max(initial=0.0) <= least * (1 + 1e-6)
            assert mass >= top_p - 1e-5 and mass - least < top_p + 1e-5
            p = np.where(stays, p, 0.0)
            p /= p.sum()
        np.testing.assert_allclose(row, p, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_the_best_of_measurements(seed):
    rng = np.random.default_rng(seed)
    goal = ("lowest", "highest")[seed % 2]
    gain = (0.0, 0.3)[seed // 2 % 2]
    rule = KeepBest(metric="held_out/loss", every=1, goal=goal, min_gain=gain)
    values = rng.choice([0.0, -0.0, 0.1, 0.4, 1.0, 2.0, math.nan, math.inf], size=12)
    best, expected = None, None
    for i, value in enumerate(values):
        if rule.improves(float(value), best):
            best = float(value)
        so_far = [v for v in values[: i + 1] if np.isfinite(v)]
        sign = 1.0 if goal == "lowest" else -1.0
        if gain == 0.0 and so_far:
            expected = sign * min(sign * np.array(so_far))
            assert best == expected
        assert (best is None) == (not so_far)


@pytest.mark.parametrize("size", [2, 3, 5, 8, 30])
def test_intervals_are_those_of_scipy(size):
    from scipy import stats  # takes two seconds, of every session at the top

    for seed in range(4):
        x = np.random.default_rng(seed).lognormal(size=size) * 10.0 ** (3 * seed - 5)
        spread = intervals.of(x.tolist())
        share = stats.norm.cdf(
            -math.sqrt(size / (size - 1)) * stats.t.ppf(0.975, size - 1)
        )
        assert intervals.tail(size) == pytest.approx(share, rel=2e-3)
        theirs = stats.bootstrap(
            (x,),
            np.mean,
            confidence_level=1 - 2 * share,
            n_resamples=100_000,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        room = 0.06 * x.std()
        assert spread.low == pytest.approx(theirs.low, abs=room)
        assert spread.high == pytest.approx(theirs.high, abs=room)
        assert spread.deviation == pytest.approx(stats.tstd(x))
    for degrees in range(1, 200):
        assert intervals.student(degrees) == pytest.approx(
            stats.t.ppf(0.975, degrees), abs=2e-4
        )


@pytest.mark.parametrize("size", [(4, 4), (4, 12), (12, 8)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_patches_and_pixels(size, channels, dtype):
    side, (height, width) = 4, size
    x = np.random.default_rng(0).integers(0, 256, (2, height, width, channels))
    x = (x / (1 if dtype == "uint8" else 255)).astype(dtype)
    scaled = standardize(jnp.asarray(x), mean=0.3, stddev=0.7, dtype="float32")
    wide = np.asarray(x, np.float64) / (255 if dtype == "uint8" else 1)
    expected = [
        (wide[i, r : r + side, c : c + side] - 0.3).ravel() / 0.7
        for i in range(2)
        for r in range(0, height, side)
        for c in range(0, width, side)
    ]
    found = np.asarray(patches(scaled, side)).reshape(len(expected), -1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
