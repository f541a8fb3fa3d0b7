"""The imputer: what it reads, how it draws, and what a view hides from it."""

import functools

import jax
import numpy as np
import pytest

import models
from tests.models.states import random_module

ROWS, MOMENTS, CHANNELS, LATENT = 2, 6, 3, 4


def imputer():
    return random_module(
        models.Imputer,
        channels=CHANNELS,
        num_steps=MOMENTS,
        latent_dim=LATENT,
        dim=8,
        num_layers=1,
        num_heads=2,
    )


def batch():
    draw = np.random.default_rng(0)
    shape = (ROWS, MOMENTS, CHANNELS)
    return {
        "values": draw.normal(size=shape).astype(np.float32),
        "observed": draw.random(shape) < 0.6,
        "row_seed": np.arange(ROWS, dtype=np.uint32),
    }


def decoded(model, latents):
    """By NumPy, float64."""
    for layer in (model.decoder, model.output):
        both = (layer.kernel, layer.bias)
        kernel, bias = (np.asarray(x[...], np.float64) for x in both)
        latents = latents @ kernel.T + bias
        latents = np.maximum(latents, 0.0) if layer is model.decoder else latents
    return latents


def test_it_reads_what_is_observed_alone_and_decodes_what_it_draws():
    model, rows = imputer(), batch()
    trunk = jax.jit(functools.partial(model.trunk, capture=model.offers()))
    outputs = trunk(rows)
    mean, log_variance = (
        np.asarray(outputs.intermediates[f"latent/{name}"], np.float64)
        for name in ("mean", "log_variance")
    )
    np.testing.assert_array_equal(outputs.hidden, outputs.intermediates["latent/mean"])

    # Numbers that are not observed are never read.
    garbage = np.where(rows["observed"], rows["values"], np.nan).astype(np.float32)
    again = trunk({**rows, "values": garbage})
    np.testing.assert_array_equal(again.hidden, outputs.hidden)

    # The reparameterization, of noise that a row's seed decides.
    keys = [jax.random.fold_in(jax.random.key(i), 2) for i in range(ROWS)]
    noise = np.stack([jax.random.normal(key, (MOMENTS, LATENT)) for key in keys])
    drawn = decoded(model, mean + np.exp(0.5 * log_variance) * noise)
    np.testing.assert_allclose(
        outputs.intermediates["drawn/logits"], drawn, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        model.head(outputs.hidden), decoded(model, mean), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="6 moments and 3 channels; the data's have 5"):
        model.check_batch({**rows, "values": rows["values"][:, :5]})


def test_a_view_hides_a_share_of_the_observed_numbers_in_gaps_of_a_length():
    rows = {
        "values": np.zeros((4, 500, 4), np.float32),
        "observed": np.ones((4, 500, 4), bool),
        "row_seed": np.arange(4, dtype=np.uint32),
    }
    for length in (1, 5):
        view = models.Hidden(share=0.4, length=length)
        hidden = ~np.asarray(view(imputer, rows)["observed"])
        assert abs(hidden.mean() - 0.4) < 0.03
    for gaps in np.moveaxis(hidden, 1, -1).reshape(16, 500):  # of 5 moments or more
        begins, ends = (np.flatnonzero(np.diff(gaps.astype(int)) == x) for x in (1, -1))
        ends = ends[ends > begins[0]]
        assert np.min(ends - begins[: len(ends)]) >= 5
    rows["observed"][:] = False
    assert not np.any(view(imputer, rows)["observed"])
