"""What the head may cost, by counting: matmuls, memory, arrays; and how exact it is."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from runner import runtime
from runner.head import flops, plan
from tests import heads
from tests.benchmarks import head_bench
from tests.benchmarks.head_bench import CASES
from tests.cases import cases as parameters

cases = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def arguments(size, **options):
    given = heads.shapes(size, **options)
    return given["student"], given["teacher"], given["batch"]


@cases
def test_matmuls_memory_and_arrays_at_full_size(case):
    """Compiled, not run; the targets are those of the benchmark."""
    size, given = case.size, arguments(case.size)
    step = heads.step(size, case.terms, head=case.head)
    least = 2 * size.tokens * size.vocabulary * (3 * size.dim + size.teacher_dim)
    assert flops.matmul_flops(step, *given) <= case.most_flops * least
    lean = case.head == head_bench.LEAN
    assert (flops.matmul_flops(step, *given) == least) == (not lean)

    largest = heads.largest_array(flops.live(jax.make_jaxpr(step)(*given).jaxpr))
    weights = size.vocabulary * max(size.dim, size.teacher_dim)
    assert largest == weights < size.tokens * size.vocabulary

    ours, full = (
        jax.jit(way).lower(*given).compile().memory_analysis().temp_size_in_bytes
        for way in (step, heads.full(case.full))
    )
    assert ours <= case.most_memory * full
    if not lean:
        assert ours <= 1.25 * case.head.memory_budget


SMALL = heads.Size(tokens=250, dim=256, vocabulary=8191, teacher_dim=384)
HALF = SMALL._replace(tokens=125, vocabulary=4093)
CUTS = {
    "whole": runtime.Head(),
    "fast": heads.in_blocks(7, SMALL.vocabulary, planes=2),
    "lean": heads.in_tiles(500),
}
KINDS = {
    "labels": (head_bench.LABELS, head_bench.labels),
    "kl": (head_bench.KL, head_bench.forward_kl),
    "five": (head_bench.FIVE, head_bench.five),
}
sizes = pytest.mark.parametrize(
    "size",
    [pytest.param(SMALL, marks=pytest.mark.slow), HALF],
    ids=["small", "half"],
)
cuts = pytest.mark.parametrize("cut", CUTS)
kinds = pytest.mark.parametrize(
    "kind",
    parameters({kind: kind for kind in KINDS}, fast=("five",)),  # holds the others
)


@functools.cache
def exact(size, kind, dtype):
    """Value and gradients in float64, by hand, on the host."""
    given = jax.tree.map(
        lambda x: np.asarray(x.astype(jnp.float32), np.float64),
        (lambda c: (c["student"], c["teacher"]))(heads.content(size, dtype=dtype)),
    )
    student, teacher = given
    targets = np.asarray(heads.content(size)["batch"]["targets"])[0]
    s = student["hidden"][0] @ student["table"].T
    t = teacher["hidden"][0] @ teacher["table"].T
    log_q, log_z = log_softmax(s)
    log_p, _ = log_softmax(t)
    p, q = np.exp(log_p), np.exp(log_q)
    onehot = np.eye(s.shape[-1])[targets]
    tokens = np.arange(len(targets))
    ce = -log_q[tokens, targets] + 1e-4 * log_z[:, 0] ** 2
    d_ce = q - onehot + 2e-4 * log_z * q
    forward = np.sum(p * (log_p - log_q), -1)
    reverse = np.sum(q * (log_q - log_p), -1, keepdims=True)
    entropy = np.sum(q * log_q, -1, keepdims=True)
    value, d_s = {
        "labels": (ce, d_ce),
        "kl": (forward, q - p),
        "five": (
            ce + forward + 0.5 * reverse[:, 0] + 0.1 * entropy[:, 0],
            d_ce
            + (q - p)
            + 0.5 * q * (log_q - log_p - reverse)
            + 0.1 * q * (log_q - entropy),
        ),
    }[kind]
    d_s = d_s / len(targets)
    return value.mean(), {
        "hidden": (d_s @ student["table"])[None],
        "table": d_s.T @ student["hidden"][0],
    }


def log_softmax(x):
    top = x.max(-1, keepdims=True)
    log_z = top + np.log(np.sum(np.exp(x - top), -1, keepdims=True))
    return x - log_z, log_z


class Errors(NamedTuple):
    """Relative, of the value and (in norm) of each gradient."""

    value: float
    gradients: dict[str, float]


def errors(found, wanted):
    value, gradients = wanted
    return Errors(
        value=abs(float(found[0]) - value) / abs(value),
        gradients={
            name: float(
                np.linalg.norm(np.asarray(x.astype(jnp.float32)) - gradients[name])
                / np.linalg.norm(gradients[name])
            )
            for name, x in found[1].items()
        },
    )


def error_of(way, size, kind, dtype):
    """Errors of one way to the value and gradient."""
    content = heads.content(size, dtype=dtype)
    arguments = content["student"], content["teacher"], content["batch"]
    return errors(jax.jit(way)(*arguments), exact(size, kind, dtype))


@functools.cache
def error_of_full_logits(size, kind, dtype):
    """Errors of autodiff, whatever the head it is compared with."""
    return error_of(heads.full(KINDS[kind][1]), size, kind, dtype)


def both(size, kind, cut, dtype):
    """Errors of the runner's step, and of full logits by autodiff."""
    step = heads.step(size, KINDS[kind][0], head=CUTS[cut], dtype=dtype)
    ours = error_of(step, size, kind, dtype)
    return ours, error_of_full_logits(size, kind, dtype)


@sizes
@cuts
@kinds
def test_float32_is_as_exact_as_full_logits(size, kind, cut):
    ours, full = both(size, kind, cut, "float32")
    assert ours.value <= 1e-6
    for name, error in ours.gradients.items():
        assert error <= 1.1 * full.gradients[name], name


@pytest.mark.slow
@cuts
@kinds
def test_bfloat16_is_as_exact_as_full_logits(kind, cut):
    ours, full = both(SMALL, kind, cut, "bfloat16")
    assert ours.value <= 1e-6
    for name, error in ours.gradients.items():
        assert error <= 1.01 * full.gradients[name], name


def test_bfloat16_multiplies_in_bfloat16_both_ways():
    """Cotangents too: a float32 operand would make the whole matmul float32."""
    step = heads.step(
        SMALL._replace(teacher_dim=0), head_bench.LABELS, head=CUTS["fast"],
        dtype="bfloat16",
    )  # fmt: skip
    given = arguments(SMALL._replace(teacher_dim=0), dtype="bfloat16")
    operands = set(dot_operands(flops.live(jax.make_jaxpr(step)(*given).jaxpr)))
    assert operands == {("bfloat16", "bfloat16", "float32")}


def dot_operands(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            arrays = (*equation.invars, *equation.outvars)
            yield tuple(str(x.aval.dtype) for x in arrays)
        for inner in flops.inner_jaxprs(equation.params):
            yield from dot_operands(inner)


TINY = heads.Size(tokens=12, dim=8, vocabulary=37, teacher_dim=8)
TINY_CUTS = {
    "whole": runtime.Head(),
    "fast": heads.in_blocks(7, TINY.vocabulary, planes=2),
    "lean": heads.in_tiles(8),
}


@functools.cache
def tiny_five(mode):
    """The runner's step of five terms on a dozen tokens, jitted."""
    head = TINY_CUTS[mode]
    assert heads.plan(TINY, head_bench.FIVE, head=head).mode == mode
    return jax.jit(heads.step(TINY, head_bench.FIVE, head=head))


@pytest.mark.parametrize("mode", TINY_CUTS)
def test_a_batch_that_counts_nothing_moves_nothing(mode):
    given = heads.content(TINY)
    batch = given["batch"] | {"mask": np.zeros((1, TINY.tokens), bool)}
    student = given["student"] | {"hidden": with_nan(given["student"]["hidden"])}
    total, gradients = tiny_five(mode)(student, given["teacher"], batch)
    assert total == 0.0
    assert not any(np.any(x) for x in jax.tree.leaves(gradients))


def with_nan(hidden):
    """Hidden states of which those of token 3 are NaN."""
    token = np.arange(hidden.shape[1])[:, None]
    return np.where(token == 3, np.float32(np.nan), hidden)


@pytest.mark.parametrize("mode", TINY_CUTS)
def test_a_masked_token_of_nan_leaves_the_others_alone(mode):
    given = heads.content(TINY)
    batch = given["batch"] | {"mask": np.arange(TINY.tokens)[None] != 3}
    step, sides = tiny_five(mode), (given["student"], given["teacher"])
    clean = step(*sides, batch)
    poison = [side | {"hidden": with_nan(side["hidden"])} for side in sides]
    found = step(*poison, batch)
    jax.tree.map(np.testing.assert_array_equal, found, clean)


class Nothing(losses.Loss):
    """Reads nothing."""

    def __call__(self, outputs):
        return jnp.zeros(outputs.batch["targets"].shape)


class Steep(losses.Loss):
    """Infinite in value and in slope at every token."""

    needs = frozenset({"logits"})

    def __call__(self, outputs):
        zero = outputs.log_normalizer() - outputs.log_normalizer()
        return jnp.sqrt(zero) + 1.0 / zero


def all_but(*tokens):
    """A mask that leaves some tokens out."""

    def mask(batch):
        return batch["mask"].at[0, jnp.array(tokens)].set(False)

    return mask


SHARED = [
    losses.LossTerm(name="all", loss=Nothing()),
    losses.LossTerm(name="ce", loss=losses.CrossEntropy(), mask=all_but(5)),
    *(
        losses.LossTerm(name=f"kd_{i}", loss=loss, mask=all_but(3, 5))
        for i, loss in enumerate((losses.ForwardKL(), losses.LogitMSE()))
    ),
    losses.LossTerm(
        name="steep",
        loss=Steep(),
        weight=optax.linear_schedule(0.0, 1.0, 10),
        mask=all_but(5),
    ),
]
"""The teacher may be NaN at token 3, which `ce` counts, and the student at 5."""


@pytest.mark.parametrize("mode", TINY_CUTS)
def test_poison_and_weight_zero_reach_no_other_term(mode):
    head = TINY_CUTS[mode]
    assert heads.plan(TINY, SHARED, head=head).mode == mode
    given = heads.content(TINY)
    step = jax.jit(heads.step(TINY, SHARED, head=head))
    clean = step(given["student"], given["teacher"], given["batch"])
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(clean))
    student = given["student"]["hidden"].at[0, 5].set(jnp.nan)
    teacher = given["teacher"]["hidden"].at[0, jnp.array([3, 5])].set(jnp.nan)
    result = step(
        given["student"] | {"hidden": student},
        given["teacher"] | {"hidden": teacher},
        given["batch"],
    )
    jax.tree.map(np.testing.assert_array_equal, result, clean)


class Longest(losses.Loss):
    """Reads rows."""

    needs = frozenset({"logits"})

    def __call__(self, outputs):
        return jnp.max(outputs.logits, axis=-1)


@pytest.mark.parametrize(
    ("terms", "head", "wanted"),
    [
        (head_bench.FIVE, runtime.Head(), "whole"),
        (head_bench.FIVE, CUTS["fast"], "fast, blocks of 7 tokens"),
        (
            head_bench.FIVE,
            CUTS["lean"],
            "lean, 500 of the vocabulary at a time, made twice",
        ),
        # The default threshold, and a budget of 100 tokens: 1.33 matmuls are cheaper
        # than to read the head for a handful.
        (
            head_bench.LABELS,
            runtime.Head(memory_budget=8191 * 4 * 60),
            "lean, 982 of the vocabulary at a time, made twice",
        ),
        # What wants rows has them, however few.
        (
            (LossTerm(name="max", loss=Longest()),),
            runtime.Head(memory_budget=1),
            "fast, blocks of 1 tokens",
        ),
    ],
)
def test_the_budget_decides(terms, head, wanted):
    size = SMALL if len(terms) == 5 else SMALL._replace(teacher_dim=0)
    assert str(heads.plan(size, terms, head=head)) == wanted


def test_default_blocks_are_of_64_mebibytes_or_of_128_tokens():
    def tokens(entries):
        cost = plan.HeadCost(tileable=True, linear=True)
        return plan.choose(runtime.Head(), cost, tokens=8192, entries=entries).tokens

    sizes = [tokens(entries) for entries in (512, 4096, 2**15, 2**17, 2**18, 2**19)]
    assert sizes == [8192, 4096, 512, 128, 128, 128]


def test_tiles_are_few_where_a_tile_of_the_block_stays_in_the_cache():
    def entries(tokens, vocabulary):
        cost = plan.HeadCost(tileable=True, linear=True)
        config = runtime.Head()
        return plan.choose(config, cost, tokens=tokens, entries=vocabulary).entries

    assert entries(256, 4096) == entries(1024, 4096) == 512
    assert entries(4096, 4096) == 128
    assert entries(1024, 2**17) == 2048
    assert entries(1024, 100) == 100


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("tileable", [True, False])
@pytest.mark.parametrize("budget", [10**4, 10**6, 10**8])
def test_a_plan_keeps_to_its_budget(sides, tileable, budget):
    terms = plan.HeadCost(sides=sides, tileable=tileable, linear=True)
    config = runtime.Head(memory_budget=budget, smallest_block=1)
    found = plan.choose(config, terms, tokens=4096, entries=5003)
    assert found.tokens * 5003 * 4 * terms.planes <= max(budget, 5003 * 4 * 6)
    assert 1 <= found.tokens <= 4096
    assert math.ceil(4096 / found.tokens) >= 1
