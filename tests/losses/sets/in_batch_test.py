"""In-batch negatives by blocks: their values, their gradient, and what they hold."""

import jax
import jax.numpy as jnp
import numpy as np

from losses import functional
from losses.functional.in_batch import captions, pairs


def test_blocks_of_pairs_give_the_value_and_gradient_of_all_pairs(monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", 4)
    draw = np.random.default_rng(0)
    queries, keys, r, r_keys = draw.normal(size=(4, 10, 3)).astype(np.float32)
    there = np.ones(10, bool)
    there[[1, 9]] = False
    queries[1], keys[9], r[1] = np.nan, np.inf, np.nan

    def of(queries, keys):
        return functional.info_nce(
            queries,
            keys,
            jnp.asarray(there),
            temperature=0.5,
            similar=(jnp.asarray(r), jnp.asarray(r_keys)),
            alpha=0.5,
        )

    value, slopes = jax.jit(jax.value_and_grad(of, argnums=(0, 1)))(queries, keys)

    q, k, r, r_keys = (x[there].astype(np.float64) for x in (queries, keys, r, r_keys))
    other = ~np.eye(8, dtype=bool)
    p = np.where(other, np.exp(r @ r_keys.T), 0.0)
    p /= p.sum(1, keepdims=True)
    weights = np.where(other, np.maximum((1 - 0.5 * p) / (1 - 0.5 / 7), 0.1), 1.0)
    scores = q @ k.T / 0.5 + np.log(weights)
    share = np.exp(scores)
    share /= share.sum(1, keepdims=True)
    np.testing.assert_allclose(value, -np.log(np.diag(share)).mean(), rtol=1e-5)
    by_pair = (share - np.eye(8)) / 0.5 / 8
    for slope, expected in zip(slopes, (by_pair @ k, by_pair.T @ q), strict=True):
        np.testing.assert_allclose(slope[there], expected, rtol=1e-4, atol=1e-6)
        assert not np.any(slope[~there])


def test_they_hold_a_tenth_of_all_pairs():
    """By the compiler's figures; all pairs of 4,096 rows are 67 MB."""
    rows = jax.ShapeDtypeStruct((4096, 512), jnp.float32)
    step = jax.value_and_grad(functional.info_nce, argnums=(0, 1))
    compiled = jax.jit(step).lower(rows, rows).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.1 * 4096**2 * 4


def test_images_and_texts_are_told_apart_both_ways(monkeypatch):
    """CLIP's loss and the divergence of two images over all texts, in float64."""
    monkeypatch.setattr(captions, "BLOCK", 4)
    draw = np.random.default_rng(0)
    images, texts, others = draw.normal(size=(3, 7, 3)).astype(np.float32)
    there = np.ones(7, bool)
    there[2] = False
    images[2], texts[2], others[2] = np.nan, np.inf, np.nan

    @jax.jit
    def both(images, others, texts):
        counts, over = jnp.asarray(there), (0, 2)
        return (
            jax.value_and_grad(
                lambda x, _, t: functional.image_text_contrast(
                    x, t, counts, temperature=0.5
                ),
                over,
            )(images, others, texts),
            functional.image_text_kl(images, others, texts, counts),
        )

    (value, slopes), divergence = both(images, others, texts)
    x, y, t = (a[there].astype(np.float64) for a in (images, others, texts))
    scores = x @ t.T / 0.5
    by_image, by_text = (
        np.exp(scores) / np.exp(scores).sum(axis, keepdims=True) for axis in (1, 0)
    )
    own = np.diag(np.log(by_image)) + np.diag(np.log(by_text))
    np.testing.assert_allclose(value, -0.5 * own.mean(), rtol=1e-5)
    by_pair = (by_image + by_text - 2.0 * np.eye(6)) / 6
    for slope, expected in zip(slopes, (by_pair @ t, by_pair.T @ x), strict=True):
        np.testing.assert_allclose(slope[there], expected, rtol=1e-4, atol=1e-6)
        assert not np.any(slope[~there])

    p, q = (np.exp(a @ t.T) for a in (x, y))
    p, q = (a / a.sum(1, keepdims=True) for a in (p, q))
    expected = (p * np.log(p / q)).sum(1).mean()
    np.testing.assert_allclose(divergence, expected, rtol=1e-5)
