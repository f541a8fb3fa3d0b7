"""Draws of one candidate: their probabilities, and ranks of targets, against NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import losses
from losses import functional

ROWS, LOSSES = 20_000, np.array([0.3, 0.1, 0.9, 0.25, 0.2])


class Logit(losses.Loss):
    """The logit of the target."""

    needs = frozenset({"logits"})

    def __call__(self, outputs):
        return outputs.target_logits()


def outputs(values, mask, step):
    rows = jnp.broadcast_to(values.astype(jnp.float32), (ROWS, len(values)))
    place = jnp.arange(ROWS, dtype=jnp.int32)[:, None]
    place = jnp.broadcast_to(place, rows.shape)
    batch = {"targets": jnp.zeros(rows.shape, jnp.int32), "place": place}
    return losses.FullOutputs(
        batch=batch,
        logits=rows[..., None],
        mask=jnp.broadcast_to(mask > 0, rows.shape),
        step=step,
        key=jax.random.key(3),
    )


def softmax(scores):
    mass = np.exp(scores - scores.max())
    return mass / mass.sum()


def test_one_is_drawn_by_the_softmax_of_minus_its_loss():
    loss = losses.OneCandidate(loss=Logit(), temperature=0.1, after=2)
    cold = dataclasses.replace(loss, temperature=1e-4)
    mask = np.array([1, 1, 1, 0, 1], np.int32)

    @jax.jit
    def draw(values):
        of = outputs(values, mask, 2)
        results = loss(of), cold(of), loss(outputs(values, mask, 1))
        slope = jax.grad(lambda x: loss(outputs(x, mask, 2)).sum())(values)
        return *(jnp.where(x == 0.0, 0.0, x) for x in results), slope

    drawn, least, before, slope = (np.asarray(x) for x in draw(LOSSES))
    p = np.where(mask, softmax(np.where(mask, -LOSSES / 0.1, -np.inf)), 0.0)
    q = mask / 4
    for values, expected in ((drawn, p), (before, q)):
        share = (values != 0.0).mean(axis=0)
        bound = 4.5 * np.sqrt(expected * (1 - expected) / ROWS)
        assert np.all(np.abs(share - expected) <= bound), (share, expected)
        assert np.all((values != 0.0).sum(axis=1) == 1)
    assert np.all(least[:, 1] != 0.0)
    # Four targets a row: the mean over them is the drawn one's.
    np.testing.assert_allclose(drawn.max(axis=1), 4 * (drawn != 0) @ LOSSES, rtol=1e-5)
    np.testing.assert_allclose(slope, 4 * (drawn != 0.0).sum(axis=0))
    shifted = np.asarray(draw(LOSSES + 8.0)[0])
    assert np.mean((shifted != 0.0) != (drawn != 0.0)) < 1e-3  # but for roundings


def test_ranks_count_what_scores_no_less_and_is_not_excluded():
    draw = np.random.default_rng(0)
    logits = draw.integers(0, 4, (6, 1, 9)).astype(np.float32)
    targets = draw.integers(0, 9, (6, 1)).astype(np.int32)
    seen = np.array([[[-1, -1]], [[0, 3]], [[8, -1]]] * 2, np.int32)
    batch = {"targets": targets, "seen": seen}
    of_rows = losses.FullOutputs(batch=batch, logits=jnp.asarray(logits))
    recall = np.asarray(losses.RecallAt(best=3, excluded="seen")(of_rows))
    ndcg = np.asarray(losses.NDCGAt(best=3, excluded="seen")(of_rows))
    for row, target in enumerate(targets[:, 0]):
        others = set(range(9)) - {int(target)} - set(seen[row, 0].tolist())
        own = logits[row, 0, target]
        rank = 1 + sum(logits[row, 0, item] >= own for item in others)
        assert recall[row, 0] == (rank <= 3)
        expected = 1 / np.log2(1 + rank) if rank <= 3 else 0.0
        np.testing.assert_allclose(ndcg[row, 0], expected, rtol=1e-6)
    assert 0.0 < recall.mean() < 1.0
    # A model that has failed is no good one.
    unknown = jnp.full((6, 1, 9), jnp.nan)
    ranks = functional.rank(unknown, jnp.asarray(targets))
    np.testing.assert_array_equal(ranks, 9.0)
    value = functional.bpr(jnp.float32(0.5), jnp.float32(2.0))
    np.testing.assert_allclose(value, np.log1p(np.exp(1.5)), rtol=1e-6)
