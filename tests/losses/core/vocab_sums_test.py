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
from tests.losses import table, tiles
from tests.losses.poison import assert_clean, poisoned, sides
from tests.losses.table import LOSSES, Row, arrays
from tests.losses.tiles import BY_SUMS, ROWS, WIDTH

slow = pytest.mark.slow


# They are infinite at impossible entries, and would spoil the program of all.
APART = ("smoothed_cross_entropy", "forward_kl_draws", "uniform_kl", "standard_score")
# They ask for the sums of others: of stored entries, or of two segments of a row.
ALIKE = tuple(
    name
    for name, row in BY_SUMS.items()
    if (isinstance(row.loss, losses.PairLoss) and name != "dpo")
    or (row.teacher == "best" and name not in ("forward_kl_best", "reverse_kl_best"))
)
TOGETHER = tuple(name for name in BY_SUMS if name not in APART + ALIKE)
GROUPS = (TOGETHER, APART, ALIKE)

by_sums = pytest.mark.parametrize(
    "name", [pytest.param(x, marks=slow) if x in ALIKE else x for x in BY_SUMS]
)


def group(name):
    """The names that share a program with this one."""
    return next(names for names in GROUPS if name in names)


def assert_same(actual, rows):
    np.testing.assert_allclose(actual.total, rows.total, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(actual.grad, rows.grads["logits"], rtol=2e-5, atol=2e-6)


@functools.cache
def clean(names, width=WIDTH):
    """By tiles and over rows, each loss over the arrays as they are."""
    by_tiles = tiles.steps(*arrays(), names=names, width=width)
    return by_tiles, table.steps(*arrays(), names=names)


@by_sums
@pytest.mark.parametrize(
    "width", [WIDTH, *(pytest.param(width, marks=slow) for width in (1, 3, 7))]
)
def test_values_and_gradients_are_those_of_whole_rows(name, width):
    # dear: compiles the program of all losses, which the tests below run again.
    actual, rows = clean(group(name), width)
    assert_same(actual[name], rows[name])


@pytest.mark.parametrize("name", sorted(ROWS))
def test_other_losses_need_full_logits(name):
    with pytest.raises(losses.NeedsFullLogits):
        jax.eval_shape(tiles.compiled_steps((name,), WIDTH), *arrays())


def test_each_loss_is_tiled_or_declines():
    assert set(LOSSES) >= ROWS
    for name, row in LOSSES.items():
        stored = row.teacher != "whole"
        assert (name in ROWS) <= (not stored), name


def assert_same_values(floats, fixed, *, width=WIDTH):
    for names in GROUPS:
        rows = table.steps(floats, fixed, names=names)
        actual = tiles.steps(floats, fixed, names=names, width=width)
        for name, (total, _) in actual.items():
            np.testing.assert_allclose(
                total, rows[name].total, rtol=1e-5, atol=1e-5, err_msg=name
            )


@slow
@hypothesis.given(
    seed=st.integers(0, 2**16), scale=st.sampled_from([0.0, 0.1, 3.0, 30.0])
)
@hypothesis.settings(max_examples=20)
def test_any_logits_give_the_same_value(seed, scale):
    assert_same_values(*arrays(seed=seed, scale=scale))


@slow
@hypothesis.given(
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([0.0, 0.1, 3.0, 30.0]),
    width=st.integers(1, 7),
)
@hypothesis.settings(max_examples=20)
def test_any_logits_cut_anywhere_give_the_same_value(seed, scale, width):
    assert_same_values(*arrays(seed=seed, scale=scale), width=width)


@functools.cache
def poisoned_where_masked(names):
    """Each loss over poison at masked tokens of both logits."""
    floats, fixed = arrays()
    masked = ~np.asarray(fixed["mask"])
    inputs = poisoned(floats, masked, ("logits", "teacher/logits"))
    return tiles.steps(inputs, fixed, names=names)


@by_sums
def test_masked_tokens_get_exactly_zero_gradient(name):
    masked = ~np.asarray(arrays()[1]["mask"])
    grad = poisoned_where_masked(group(name))[name].grad
    assert not np.any(grad[masked])
    np.testing.assert_array_equal(grad, clean(group(name))[0][name].grad)


@functools.cache
def poisoned_beside(names, side, *, weight, everywhere):
    """Each loss beside a term that counts all, with and without poison."""
    floats, fixed = arrays()
    where = np.ones(table.SHAPE, bool) if everywhere else ~np.asarray(fixed["mask"])
    paths, scales = sides(floats)[side]
    scales = scales + (weight - 1.0) * table.ALONE
    inputs = poisoned(floats, where, paths)
    scales = np.float32(scales)
    return [tiles.steps(x, fixed, scales, names=names) for x in (inputs, floats)]


@by_sums
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_token_that_another_term_counts_harms_no_term_that_does_not(name, side):
    actual, expected = poisoned_beside(group(name), side, weight=1.0, everywhere=False)
    assert_clean(actual[name], expected[name])


@by_sums
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_weight_zero_adds_exactly_nothing(name, side):
    actual, expected = poisoned_beside(group(name), side, weight=0.0, everywhere=True)
    assert_clean(actual[name], expected[name])


IMPOSSIBLE = [
    pytest.param(name, marks=slow) if name in ALIKE else name
    for name, row in BY_SUMS.items()
    if row.teacher == "whole" and name != "smoothed_cross_entropy"
]


@functools.cache
def impossible(names, paths, width):
    """By tiles and over rows, losses where two entries are impossible."""
    floats, fixed = arrays()
    fixed |= {"targets": np.zeros_like(fixed["targets"])}
    for path in paths:
        floats[path][..., 2:4] = -np.inf
    rows = table.steps(floats, fixed, names=names)
    return tiles.steps(floats, fixed, names=names, width=width), rows


@pytest.mark.parametrize("name", IMPOSSIBLE)
@pytest.mark.parametrize("side", [("logits",), ("logits", "teacher/logits")])
@pytest.mark.parametrize(
    "width", [WIDTH, *(pytest.param(width, marks=slow) for width in (2, 3))]
)
def test_impossible_entries_count_as_over_rows(name, side, width):
    names = (name,) if name in APART else group(name)
    actual, rows = impossible(names, side, width)
    assert_same(actual[name], rows[name])


@pytest.mark.parametrize("width", [pytest.param(1, marks=slow), 4])
def test_a_teacher_of_fewer_entries_is_compared_over_those(width):
    floats, fixed = arrays()
    floats["teacher/logits"] = floats["teacher/logits"][..., :5]
    names = ("forward_kl", "reverse_kl", "logit_mse")
    rows = table.steps(floats, fixed, names=names)
    for name, actual in tiles.steps(floats, fixed, names=names, width=width).items():
        assert_same(actual, rows[name])


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
    tiled = jax.jit(functools.partial(tiles.by_tiles, {"own": row}, width=WIDTH))
    (actual,), (grad,) = tiled(floats, fixed)
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(grad, expected_grad, rtol=2e-5, atol=2e-6)


def test_a_users_loss_of_rows_needs_full_logits():
    with pytest.raises(losses.NeedsFullLogits):
        tiles.by_tiles({"reader": Row(Reader())}, *arrays(), width=WIDTH)


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
