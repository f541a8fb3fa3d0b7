"""The filter does what its warning says, the same however the head is cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import LossTerm
from runner import runtime
from runner.head.gradient_filter import large
from tests import heads
from tests.benchmarks.head_bench import LABELS

SIZE = heads.Size(tokens=48, dim=16, vocabulary=8192)
FILTER = 2.0**-12
CUTS = {
    "whole": runtime.Head(),
    "fast": heads.in_blocks(7, SIZE.vocabulary),
    "lean": heads.in_tiles(500),
}
cuts = pytest.mark.parametrize("head", CUTS.values(), ids=CUTS)


class Rows(losses.CrossEntropy):
    """The cross-entropy, from whole rows."""

    def __call__(self, outputs):
        rows = jax.nn.log_softmax(outputs.logits)
        return -jnp.take_along_axis(rows, outputs.batch["targets"][..., None], -1)[
            ..., 0
        ]


@functools.cache
def content(scale):
    """Hidden states that make logits of this standard deviation."""
    given = heads.content(SIZE)
    student = given["student"] | {"hidden": scale * given["student"]["hidden"]}
    return student, given["teacher"], given["batch"]


def gradients(head, *, gradient_filter, scale, terms=LABELS):
    step = heads.step(SIZE, terms, head=head, gradient_filter=gradient_filter)
    return jax.jit(step)(*content(scale))


def untouched(gradients):
    """Rows of the head that get no gradient at all."""
    return np.flatnonzero(~np.any(np.asarray(gradients["table"]), axis=-1))


@cuts
def test_near_uniform_only_targets_move(head):
    """The warning: no probability of 8,192 equal ones reaches 2^-12."""
    _, found = gradients(head, gradient_filter=FILTER, scale=0.01)
    targets = np.unique(content(0.01)[2]["targets"])
    assert set(untouched(found)) == set(range(SIZE.vocabulary)) - set(targets.tolist())


@cuts
def test_without_it_every_row_moves(head):
    _, found = gradients(head, gradient_filter=0.0, scale=0.01)
    assert untouched(found).size == 0


@pytest.mark.parametrize("scale", [0.01, 1.0, 4.0])
def test_what_is_left_out_is_the_same_however_the_head_is_cut(scale):
    rows = (LossTerm(name="ce", loss=Rows()),)
    plain = (LossTerm(name="ce", loss=losses.CrossEntropy()),)
    run = functools.partial(gradients, gradient_filter=FILTER, scale=scale)
    wanted = run(CUTS["whole"], terms=rows)
    for head in CUTS.values():
        found = run(head, terms=plain)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7),
            found,
            wanted,
        )


@cuts
def test_the_value_is_whole(head):
    with_it, _ = gradients(head, gradient_filter=FILTER, scale=4.0)
    without, _ = gradients(head, gradient_filter=0.0, scale=4.0)
    assert with_it == without


def test_where_the_model_is_sure_little_is_lost():
    head = CUTS["lean"]
    _, with_it = gradients(head, gradient_filter=FILTER, scale=8.0)
    _, without = gradients(head, gradient_filter=0.0, scale=8.0)
    for name, wanted in without.items():
        lost = np.linalg.norm(with_it[name] - wanted) / np.linalg.norm(wanted)
        assert 0.0 < lost < 0.02, name


def test_what_is_no_number_is_not_small():
    d_logits = jnp.asarray([jnp.nan, -jnp.inf, 0.1, -0.2, 0.3])
    kept = large(d_logits, jnp.float32(0.2))
    np.testing.assert_allclose(kept, [jnp.nan, -jnp.inf, 0.0, -0.2, 0.3])
