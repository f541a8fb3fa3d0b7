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
from tests.losses import laws_test
from tests.losses.laws_test import LOSSES, Row

ROWS = {
    "jensen_shannon",
    "skew_forward_kl",
    "skew_reverse_kl",
    "total_variation",
    "alpha_divergence",
    "renyi_divergence",
    "adaptive_kl",
    "decoupled_kd",
    "normalised_kd",
    "plackett_luce",
    "standardised",
    "inter_class_correlation",
    "intra_class_correlation",
    "own_head",
}
"""Those that want a sum before the first sum, leave an entry out, sort, or own rows."""

BY_SUMS = {name: row for name, row in LOSSES.items() if name not in ROWS}
by_sums = pytest.mark.parametrize("row", BY_SUMS.values(), ids=BY_SUMS)


def reduced(row, seen, sums, *, vocabulary, teacher_width):
    """What `row.loss` sees, without a row of logits."""
    whole = row.teacher == "whole"
    teacher = seen.teacher
    if whole:
        teacher = dataclasses.replace(teacher, logits=None)
    return losses.TiledOutputs(
        batch=seen.batch,
        intermediates=seen.intermediates,
        teacher=teacher,
        sums=sums,
        vocabulary=vocabulary,
        teacher_width=teacher_width if whole else None,
    )


def by_tiles(row, floats, fixed, *, width, means=None):
    """The masked sum of one term and its gradient in the logits, tile by tile."""
    seen = laws_test.outputs(row, floats, fixed)
    term = losses.LossTerm(name="term", loss=row.loss)
    logits = floats["logits"]
    teacher = floats["teacher/logits"]

    def value(sums):
        outputs = reduced(
            row,
            seen,
            sums,
            vocabulary=logits.shape[-1],
            teacher_width=teacher.shape[-1],
        )
        found = losses.per_token(
            [term], outputs, masks={"term": fixed["mask"]}, statistics=means or {}
        )
        return jnp.sum(found["term"].values)

    def tiles():
        for start in range(0, logits.shape[-1], width):
            ids = jnp.arange(start, min(start + width, logits.shape[-1]))
            beyond = ids >= teacher.shape[-1]
            there = teacher[..., jnp.where(beyond, 0, ids)]
            yield losses.Tile(ids=ids[None], student=logits[..., ids], teacher=there)

    requests = losses.SumRequests(fixed["targets"].shape)
    value(requests)
    state = requests.start()
    for tile in tiles():
        state = requests.updated(state, tile)
    found = requests.found(state)
    total, cotangents = jax.value_and_grad(lambda x: value(requests.answers(x)))(found)
    gradients = [
        jax.grad(
            lambda student, tile=tile: requests.tangent(
                tile._replace(student=student), state, found, cotangents
            )
        )(tile.student)
        for tile in tiles()
    ]
    return total, jnp.concatenate(gradients, axis=-1)


def by_rows(row, floats, fixed):
    def total(logits):
        return laws_test.total(row, floats | {"logits": logits}, fixed)

    return jax.value_and_grad(total)(floats["logits"])


def assert_same(row, floats, fixed, *, width):
    wanted, wanted_gradient = by_rows(row, floats, fixed)
    found, gradient = by_tiles(row, floats, fixed, width=width)
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=2e-5, atol=2e-6)


def needs_logits(row):
    return "logits" in row.loss.needs


@by_sums
@pytest.mark.parametrize("width", [1, 3, 7])
def test_values_and_gradients_are_those_of_whole_rows(row, width):
    if needs_logits(row):
        assert_same(row, *laws_test.arrays(), width=width)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_others_say_that_they_want_rows(name):
    with pytest.raises(losses.NeedsFullLogits):
        by_tiles(LOSSES[name], *laws_test.arrays(), width=3)


def test_every_loss_does_one_or_the_other():
    assert set(LOSSES) >= ROWS
    for name, row in LOSSES.items():
        stored = row.teacher != "whole"
        assert (name in ROWS) <= (not stored), name


@by_sums
@hypothesis.given(
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([0.0, 0.1, 3.0, 30.0]),
    width=st.integers(1, 7),
)
@hypothesis.settings(max_examples=8)
def test_any_logits_cut_anywhere_give_the_same_value(row, seed, scale, width):
    if not needs_logits(row):
        return
    floats, fixed = laws_test.arrays((4,), seed=seed, scale=scale)
    wanted = laws_test.total(row, floats, fixed)
    found, _ = by_tiles(row, floats, fixed, width=width)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@by_sums
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_masked_tokens_get_exactly_zero_gradient(row, poison):
    floats, fixed = laws_test.arrays()
    if not needs_logits(row):
        return
    masked = ~fixed["mask"]
    poisoned = {
        name: jnp.where(masked[..., None], poison, floats[name])
        for name in ("logits", "teacher/logits")
    }
    _, gradient = by_tiles(row, floats | poisoned, fixed, width=3)
    _, clean = by_tiles(row, floats, fixed, width=3)
    assert not np.any(gradient[masked])
    np.testing.assert_array_equal(gradient, clean)


IMPOSSIBLE = {
    name: row
    for name, row in BY_SUMS.items()
    if needs_logits(row) and row.teacher == "whole" and name != "smoothed_cross_entropy"
}


@pytest.mark.parametrize("row", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("side", [("logits",), ("logits", "teacher/logits")])
def test_impossible_entries_count_as_over_rows(row, side):
    floats, fixed = laws_test.arrays()
    fixed |= {"targets": jnp.zeros_like(fixed["targets"])}
    for name in side:
        floats[name] = floats[name].at[..., 2:4].set(-jnp.inf)
    assert_same(row, floats, fixed, width=2)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "logit_mse"])
@pytest.mark.parametrize("width", [1, 4])
def test_a_teacher_of_fewer_entries_is_compared_over_those(name, width):
    floats, fixed = laws_test.arrays()
    floats["teacher/logits"] = floats["teacher/logits"][..., :5]
    assert_same(LOSSES[name], floats, fixed, width=width)


class OwnLoss(losses.Loss):
    """A user's, of nothing but the log-normaliser: it has the form without asking."""

    needs = frozenset({"logits"})

    def __call__(self, outputs):
        return jnp.tanh(outputs.log_normalizer(2.0)) * outputs.mean_logits()


class Reader(losses.Loss):
    """A user's, that reads rows."""

    needs = frozenset({"logits"})

    def __call__(self, outputs):
        return jnp.max(outputs.logits, axis=-1)


def test_a_loss_of_the_users_has_the_form_by_itself():
    assert_same(Row(OwnLoss()), *laws_test.arrays(), width=3)
    with pytest.raises(losses.NeedsFullLogits):
        by_tiles(Row(Reader()), *laws_test.arrays(), width=3)


def test_terms_share_what_they_ask_for():
    requests = losses.SumRequests((4,))
    seen = functools.partial(
        losses.TiledOutputs,
        batch={"targets": jnp.zeros(4, jnp.int32)},
        sums=requests,
        vocabulary=7,
    )
    losses.CrossEntropy().call_tiled(seen())
    losses.ZLoss().call_tiled(seen())
    assert len(requests.start().largest) == 1


@pytest.mark.parametrize("start", [0, 2, 3])
def test_ids_are_found_in_tiles_of_a_sharded_vocabulary(start):
    """Three shards of five; a tile takes two entries of each."""
    ids = jnp.arange(3, dtype=jnp.int32)[:, None] * 5 + start + jnp.arange(2)[None]
    tile = losses.Tile(ids=ids, student=jnp.zeros((1, 6)))
    place, inside = tile.place(jnp.arange(17))
    assert set(np.flatnonzero(inside)) == set(np.asarray(tile.entries).tolist())
    np.testing.assert_array_equal(
        tile.entries[place[inside]], np.flatnonzero(np.asarray(inside))
    )
