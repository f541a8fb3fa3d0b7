"""A loss by tiles of the vocabulary is the loss over whole rows, gradient included."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import losses
from losses.core.tiles import Tile
from losses.core.vocab_sums import SumRequests, SumResults
from tests.losses import table
from tests.losses.poison import assert_clean, poisoned, sides
from tests.losses.table import LOSSES, Row, arrays
from tests.losses.tiles import BY_SUMS, ROWS, WIDTH, by_tiles, compiled_tiles

by_sums = pytest.mark.parametrize("name", BY_SUMS)
slow = pytest.mark.slow


# These two are infinite at impossible entries, and would spoil the program of all.
TOGETHER = tuple(
    name
    for name in BY_SUMS
    if name not in ("smoothed_cross_entropy", "forward_kl_draws")
)


ONE_OF_A_KIND = (
    *("cross_entropy", "smoothed_cross_entropy", "z_loss", "standard_score"),
    *("confidence_penalty", "uniform_kl", "forward_kl", "reverse_kl", "comp_sum"),
    *("forward_kl_best", "forward_kl_draws", "jensen_shannon_best", "logit_mse"),
    *("binary_kl", "dpo"),
)
"""What the others are made of by tiles; those are held with the slow tests."""


def over_rows(name, floats, fixed):
    """`Result` of one loss over whole rows, of one program where shapes are usual."""
    usual = floats["teacher/logits"].shape == floats["logits"].shape
    names = TOGETHER if usual and name in TOGETHER else (name,)
    return table.steps(floats, fixed, names=names)[name]


def assert_same(name, floats, fixed, *, width=WIDTH):
    rows = over_rows(name, floats, fixed)
    total, grad = compiled_tiles(name, width)(floats, fixed)
    np.testing.assert_allclose(total, rows.total, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(grad, rows.grads["logits"], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=() if x in ONE_OF_A_KIND else slow) for x in BY_SUMS]
)
@pytest.mark.parametrize(
    "width", [pytest.param(1, marks=slow), WIDTH, pytest.param(7, marks=slow)]
)
def test_values_and_gradients_are_those_of_whole_rows(name, width):
    # dear: compiles what the tests below run again.
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


@slow
@by_sums
@hypothesis.given(
    seed=st.integers(0, 2**16), scale=st.sampled_from([0.0, 0.1, 3.0, 30.0])
)
@hypothesis.settings(max_examples=8)
def test_any_logits_give_the_same_value(name, seed, scale):
    floats, fixed = arrays(seed=seed, scale=scale)
    total, _ = compiled_tiles(name, WIDTH)(floats, fixed)
    expected = over_rows(name, floats, fixed).total
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
    expected = over_rows(name, floats, fixed).total
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-5)


@by_sums
def test_masked_tokens_get_exactly_zero_gradient(name):
    floats, fixed = arrays()
    masked = ~np.asarray(fixed["mask"])
    inputs = poisoned(floats, masked, ("logits", "teacher/logits"))
    _, grad = compiled_tiles(name, WIDTH)(inputs, fixed)
    _, clean = compiled_tiles(name, WIDTH)(floats, fixed)
    assert not np.any(np.asarray(grad)[masked])
    np.testing.assert_array_equal(grad, clean)


@by_sums
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_token_that_another_term_counts_harms_no_term_that_does_not(name, side):
    floats, fixed = arrays()
    paths, scales = sides(floats)[side]
    poison = poisoned(floats, ~fixed["mask"], paths)
    run = compiled_tiles(name, WIDTH)
    assert_clean(run(poison, fixed, scales), run(floats, fixed, scales))


@by_sums
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_weight_zero_adds_exactly_nothing(name, side):
    floats, fixed = arrays()
    paths, scales = sides(floats)[side]
    scales = scales - table.ALONE
    poison = poisoned(floats, jnp.ones_like(fixed["mask"]), paths)
    run = compiled_tiles(name, WIDTH)
    assert_clean(run(poison, fixed, scales), run(floats, fixed, scales))


IMPOSSIBLE = [
    name
    for name, row in BY_SUMS.items()
    if row.teacher == "whole" and name != "smoothed_cross_entropy"
]


@pytest.mark.parametrize("name", IMPOSSIBLE)
@pytest.mark.parametrize("side", [("logits",), ("logits", "teacher/logits")])
@pytest.mark.parametrize("width", [pytest.param(2, marks=slow), WIDTH])
def test_impossible_entries_count_as_over_rows(name, side, width):
    # dear: the first of a loss compiles its program by sums.
    floats, fixed = arrays()
    fixed |= {"targets": np.zeros_like(fixed["targets"])}
    for path in side:
        floats[path][..., 2:4] = -np.inf
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
        return jnp.sum(table.values({"own": row}, inputs, fixed, {})["own"])

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
    assert declared == {name: name not in ROWS for name in declared}, (
        "ROWS of tests/losses/tiles.py names those that want whole rows"
    )


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
