"""A draft of what the student says, against NumPy, a token at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import losses
from tests.losses import table

SEGMENTS = np.array([[1, 1, 1, 2, 2], [1, 1, 1, 1, 0]], np.int32)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def normed(x):
    return x / np.sqrt(np.mean(x**2) + 1e-6)


def by_hand(draft, x, targets, mask, row, t, ahead):
    """Logits of `d_ahead(t)`."""
    wide = {
        name: [np.asarray(a, np.float64) for a in getattr(draft, name).arrays()]
        for name in ("fuse", "first", "second", "last")
    }

    def state(t, ahead):
        there = t > 0 and mask[row, t - 1] and SEGMENTS[row, t] == SEGMENTS[row, t - 1]
        z, e = np.zeros(3), np.zeros(3)
        if there:
            e = np.asarray(draft.embedding[...], np.float64)[targets[row, t - 1]]
            if ahead == 1:
                kernel, bias = wide["fuse"]
                z = x[row, t - 1].astype(np.float64) @ kernel + bias
            else:
                z = state(t - 1, ahead - 1)
        (w, b), (v, c) = wide["first"], wide["second"]
        return z + gelu(np.concatenate([normed(z), e]) @ w + b) @ v + c

    kernel, bias = wide["last"]
    return normed(state(t, ahead)) @ kernel + bias


def test_a_draft_reads_what_is_before_it_and_is_accepted_as_often_as_they_overlap():
    draw = np.random.default_rng(0)
    low, high = draw.normal(size=(2, 2, 5, 2)).astype(np.float32)
    logits = draw.normal(size=(2, 5, 4)).astype(np.float32)
    targets = draw.integers(0, 4, (2, 5)).astype(np.int32)
    mask = np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 0]], bool)
    targets[~mask] = -1
    draft = losses.Draft(
        loss=losses.TotalVariation(),
        of=("low", "high"),
        width=2,
        dim=3,
        num_outputs=4,
        steps=2,
        rngs=nnx.Rngs(0),
    )
    draft.embedding[...] = jnp.asarray(draw.normal(size=(4, 3)).astype(np.float32))
    assert draft.needs == {"low", "high", "logits"}

    def values(low, logits):
        outputs = losses.FullOutputs(
            batch={
                "targets": jnp.asarray(targets),
                "segment_ids": jnp.asarray(SEGMENTS),
            },
            logits=logits,
            intermediates={"low": low, "high": jnp.asarray(high)},
        )
        return draft(outputs.where(jnp.asarray(mask)))

    found, back = jax.vjp(values, jnp.asarray(low), jnp.asarray(logits))
    both = np.concatenate([low, high], axis=-1)
    for row, t in np.argwhere(mask):
        q = np.exp(logits[row, t].astype(np.float64))
        q /= q.sum()
        rejected = []
        for ahead in (1, 2):
            d = np.exp(by_hand(draft, both, targets, mask, row, t, ahead))
            rejected.append(1 - np.minimum(q, d / d.sum()).sum())
        np.testing.assert_allclose(found[row, t], np.mean(rejected), rtol=1e-4)
    for slope in back(jnp.ones((2, 5))):  # states and teacher are constants
        assert not np.any(slope)


def test_states_of_another_width_are_named():
    head = table.LOSSES["draft"].loss
    assert isinstance(head, losses.Draft)
    with pytest.raises(
        losses.IncompatibleLoss, match=r"Draft\(width=5\) reads trunk of"
    ):
        floats, fixed = table.arrays()
        outputs = table.outputs(
            "whole", floats | {"trunk": floats["trunk"][..., :4]}, fixed
        )
        head(outputs)
