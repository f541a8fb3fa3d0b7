"""A loss by tiles of the vocabulary is the loss over whole rows, gradient included."""

import dataclasses
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import losses
from losses.core.term_values import per_token
from losses.core.tiles import Tile
from losses.core.vocab_sums import SumRequests, SumResults
from losses.core.vocab_sums_pass import VocabSumsPass
from tests.losses import table
from tests.losses.table import LOSSES, Row, arrays

ROWS = {
    "jensen_shannon",
    "skew_forward_kl",
    "skew_reverse_kl",
    "total_variation",
    "alpha_divergence",
    "renyi_divergence",
    "adaptive_kl",
    "decoupled_kd",
    "normalized_kd",
    "plackett_luce",
    "standardized",
    "inter_class_correlation",
    "intra_class_correlation",
    "own_head",
}
"""Losses that want a sum before the first sum, omit an entry, sort, or own rows."""

BY_SUMS = {
    name: row
    for name, row in LOSSES.items()
    if name not in ROWS and "logits" in row.loss.needs
}
by_sums = pytest.mark.parametrize("name", BY_SUMS)
WIDTH = 3
slow = pytest.mark.slow


def tiled_outputs(row, outputs, sums, *, vocabulary, teacher_width):
    """`outputs` without a row of logits."""
    whole = row.teacher == "whole"
    teacher = outputs.teacher
    if whole:
        teacher = dataclasses.replace(teacher, logits=None)
    return losses.TiledOutputs(
        batch=outputs.batch,
        intermediates=outputs.intermediates,
        teacher=teacher,
        sums=sums,
        vocabulary=vocabulary,
        teacher_width=teacher_width if whole else None,
    )


def by_tiles(row, floats, fixed, *, width):
    """The masked sum of one term and its gradient in the logits, tile by tile."""
    outputs = table.outputs(row, floats, fixed)
    term = losses.LossTerm(name="term", loss=row.loss)
    logits = floats["logits"]
    teacher = floats["teacher/logits"]

    def value(sums):
        tiled = tiled_outputs(
            row,
            outputs,
            sums,
            vocabulary=logits.shape[-1],
            teacher_width=teacher.shape[-1],
        )
        results = per_token([term], tiled, masks={"term": fixed["mask"]}, statistics={})
        return jnp.sum(results["term"].values)

    def tiles():
        for start in range(0, logits.shape[-1], width):
            ids = jnp.arange(start, min(start + width, logits.shape[-1]))
            beyond = ids >= teacher.shape[-1]
            teacher_tile = teacher[..., jnp.where(beyond, 0, ids)]
            yield Tile(ids=ids[None], student=logits[..., ids], teacher=teacher_tile)

    # One pass collects the sums; a second gives each tile its gradient.
    requests = SumRequests(fixed["targets"].shape)
    value(requests)
    sums_pass = VocabSumsPass(requests)
    state = sums_pass.start()
    for tile in tiles():
        state = sums_pass.add_tile(state, tile)
    sums = sums_pass.results(state)
    total, cotangents = jax.value_and_grad(value)(sums)
    grads = [
        jax.grad(
            lambda student, tile=tile: sums_pass.tangent(
                tile._replace(student=student), state, sums, cotangents
            )
        )(tile.student)
        for tile in tiles()
    ]
    return total, jnp.concatenate(grads, axis=-1)


@functools.cache
def compiled_tiles(name, width):
    """Jitted `by_tiles` of one row."""
    return jax.jit(functools.partial(by_tiles, LOSSES[name], width=width))


def assert_same(name, floats, fixed, *, width=WIDTH):
    rows = table.step(name, floats, fixed)
    total, grad = compiled_tiles(name, width)(floats, fixed)
    np.testing.assert_allclose(total, rows.total, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(grad, rows.grads["logits"], rtol=2e-5, atol=2e-6)


@by_sums
@pytest.mark.parametrize(
    "width", [pytest.param(1, marks=slow), WIDTH, pytest.param(7, marks=slow)]
)
def test_values_and_gradients_are_those_of_whole_rows(name, width):
    assert_same(name, *arrays(), width=width)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_other_losses_need_full_logits(name):
    with pytest.raises(losses.NeedsFullLogits):
        jax.eval_shape(compiled_tiles(name, WIDTH), *arrays())


def test_each_loss_is_tiled_or_declines():
    assert set(LOSSES) >= ROWS
    for name, row in LOSSES.items():
        stored = row.teacher != "whole"
        assert (name in ROWS) <= (not stored), name


@by_sums
@hypothesis.given(
    seed=st.integers(0, 2**16), scale=st.sampled_from([0.0, 0.1, 3.0, 30.0])
)
@hypothesis.settings(max_examples=8)
def test_any_logits_give_the_same_value(name, seed, scale):
    floats, fixed = arrays(seed=seed, scale=scale)
    total, _ = compiled_tiles(name, WIDTH)(floats, fixed)
    expected = table.step(name, floats, fixed).total
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-5)


@slow
@by_sums
@hypothesis.given(
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([0.0, 0.1, 3.0, 30.0]),
    width=st.integers(1, 7),
)
@hypothesis.settings(max_examples=8)
def test_any_logits_cut_anywhere_give_the_same_value(name, seed, scale, width):
    floats, fixed = arrays((4,), seed=seed, scale=scale)
    total, _ = compiled_tiles(name, width)(floats, fixed)
    expected = table.step(name, floats, fixed).total
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-5)


@by_sums
def test_masked_tokens_get_exactly_zero_gradient(name):
    floats, fixed = arrays()
    masked = ~np.asarray(fixed["mask"])
    shape = floats["logits"].shape
    poison = np.resize(np.array([np.nan, np.inf, -np.inf], np.float32), shape)
    poisoned = {
        path: jnp.where(masked[..., None], poison, floats[path])
        for path in ("logits", "teacher/logits")
    }
    _, grad = compiled_tiles(name, WIDTH)(floats | poisoned, fixed)
    _, clean = compiled_tiles(name, WIDTH)(floats, fixed)
    assert not np.any(np.asarray(grad)[masked])
    np.testing.assert_array_equal(grad, clean)


IMPOSSIBLE = [
    name
    for name, row in BY_SUMS.items()
    if row.teacher == "whole" and name != "smoothed_cross_entropy"
]


@pytest.mark.parametrize("name", IMPOSSIBLE)
@pytest.mark.parametrize("side", [("logits",), ("logits", "teacher/logits")])
@pytest.mark.parametrize("width", [pytest.param(2, marks=slow), WIDTH])
def test_impossible_entries_count_as_over_rows(name, side, width):
    floats, fixed = arrays()
    fixed |= {"targets": jnp.zeros_like(fixed["targets"])}
    for path in side:
        floats[path] = floats[path].at[..., 2:4].set(-jnp.inf)
    assert_same(name, floats, fixed, width=width)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "logit_mse"])
@pytest.mark.parametrize("width", [pytest.param(1, marks=slow), 4])
def test_a_teacher_of_fewer_entries_is_compared_over_those(name, width):
    floats, fixed = arrays()
    floats["teacher/logits"] = floats["teacher/logits"][..., :5]
    assert_same(name, floats, fixed, width=width)


class OwnLoss(losses.Loss):
    """A user's loss of log-normaliser and mean alone: tiled as it is."""

    needs = frozenset({"logits"})

    def __call__(self, outputs):
        return jnp.tanh(outputs.log_normalizer(2.0)) * outputs.mean_logits()


class Reader(losses.Loss):
    """A user's loss that reads rows."""

    needs = frozenset({"logits"})

    def __call__(self, outputs):
        return jnp.max(outputs.logits, axis=-1)


def test_a_users_loss_of_sums_is_tiled_as_it_is():
    floats, fixed = arrays()
    row = Row(OwnLoss())

    def total(logits):
        inputs = floats | {"logits": logits}
        return jnp.sum(table.values(row, inputs, fixed, {}))

    expected, expected_grad = jax.jit(jax.value_and_grad(total))(floats["logits"])
    tiled = jax.jit(functools.partial(by_tiles, row, width=WIDTH))
    actual, grad = tiled(floats, fixed)
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(grad, expected_grad, rtol=2e-5, atol=2e-6)


def test_a_users_loss_of_rows_needs_full_logits():
    with pytest.raises(losses.NeedsFullLogits):
        by_tiles(Row(Reader()), *arrays(), width=WIDTH)


def test_terms_share_their_sums():
    requests = SumRequests((4,))
    outputs = functools.partial(
        losses.TiledOutputs,
        batch={"targets": jnp.zeros(4, jnp.int32)},
        sums=requests,
        vocabulary=7,
    )
    losses.CrossEntropy().call_tiled(outputs())
    losses.ZLoss().call_tiled(outputs())
    assert len(requests.moments) == 1


def test_masked_views_of_sums_go_on_where_the_others_stand():
    """Terms of different masks read totals in the one order of the requests."""
    totals = [jnp.full(2, 1.0), jnp.full(2, 2.0), jnp.full(2, 3.0)]
    sums = SumResults((), [], [], totals)
    first, second = sums.where(jnp.array([True, False])), sums.where(jnp.ones(2, bool))
    values = [view.total(jnp.sum).tolist() for view in (first, second, first)]
    assert values == [[1.0, 0.0], [2.0, 2.0], [3.0, 0.0]]


def test_a_declared_form_is_the_one_that_a_loss_has():
    declared = {
        name: row.loss.tiled
        for name, row in LOSSES.items()
        if row.loss.tiled is not None
    }
    assert {"cross_entropy", "z_loss"} <= set(declared)
    assert declared == {name: name not in ROWS for name in declared}


@pytest.mark.parametrize("start", [0, 2, 3])
def test_ids_are_placed_in_tiles_of_a_sharded_vocabulary(start):
    """Three shards of five; a tile takes two entries of each."""
    ids = jnp.arange(3, dtype=jnp.int32)[:, None] * 5 + start + jnp.arange(2)[None]
    tile = Tile(ids=ids, student=jnp.zeros((1, 6)))
    place, inside = tile.place(jnp.arange(17))
    assert set(np.flatnonzero(inside)) == set(np.asarray(tile.entries).tolist())
    np.testing.assert_array_equal(
        tile.entries[place[inside]], np.flatnonzero(np.asarray(inside))
    )
