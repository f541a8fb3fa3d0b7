"""Sums over masked rows: those of masked copies, which are not made."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from losses import CrossEntropy
from losses.core.outputs import FullOutputs
from losses.core.rows import picked

MASK = np.asarray([True, False, True, False])


def rows() -> np.ndarray:
    """Return logits whose masked rows hold inf and NaN."""
    logits = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    logits[1, 2], logits[3, 4] = np.inf, np.nan
    return logits


def log_normalizers(logits: jax.Array, temperature: float) -> jax.Array:
    outputs = FullOutputs(batch={}, logits=logits)
    return outputs.where(jnp.asarray(MASK)).log_normalizer(temperature)


def test_log_normalizers_are_those_of_masked_rows():
    wide = np.where(MASK[:, None], rows().astype(np.float64), 0.0)
    for temperature in (1.0, 2.0):
        expected = np.log(np.exp(wide / temperature).sum(axis=-1))
        plain = log_normalizers(jnp.asarray(rows()), temperature)
        differentiated, _ = jax.vjp(
            lambda x, t=temperature: log_normalizers(x, t), jnp.asarray(rows())
        )
        np.testing.assert_allclose(plain, expected, rtol=1e-6)
        np.testing.assert_allclose(differentiated, expected, rtol=1e-6)


def test_a_copy_with_other_logits_has_its_own_log_normalizers():
    logits = jnp.asarray(rows()[::2])
    for mask in (None, jnp.asarray([True, False])):
        outputs = FullOutputs(batch={}, logits=logits)
        outputs = outputs if mask is None else outputs.where(mask)
        outputs.log_normalizer()
        copy = dataclasses.replace(outputs, logits=logits + 1.0)
        for _ in range(2):
            expected = np.log(np.exp(np.float64(logits) + 1.0).sum(axis=-1))
            np.testing.assert_allclose(copy.log_normalizer(), expected, rtol=1e-6)
        zeros = np.zeros(7) if mask is not None else np.float64(logits[1])
        expected = np.log(np.exp([np.float64(logits[0]), zeros]).sum(axis=-1))
        np.testing.assert_allclose(outputs.log_normalizer(), expected, rtol=1e-6)


def test_masked_rows_have_no_gradient():
    wide = np.where(MASK[:, None], rows().astype(np.float64), 0.0) / 2.0
    weights = np.exp(wide) / np.exp(wide).sum(axis=-1, keepdims=True) / 2.0
    gradient = jax.grad(lambda x: jnp.sum(log_normalizers(x, 2.0)))(jnp.asarray(rows()))
    expected = np.where(MASK[:, None], weights, 0.0)
    np.testing.assert_allclose(gradient, expected, atol=1e-7)
    assert not gradient[~MASK].any()


def test_an_entry_is_picked_and_one_outside_is_zero():
    logits = jnp.asarray(rows())
    ids = jnp.asarray([6, 0, -1, 7])
    np.testing.assert_array_equal(picked(logits, ids), [*rows()[[0, 1], [6, 0]], 0, 0])
    finite = jnp.nan_to_num(logits)
    values, pull = jax.vjp(lambda x: picked(x, ids), finite)
    (gradient,) = pull(jnp.asarray([1.0, 2.0, 3.0, 4.0]))
    expected = np.zeros((4, 7))
    expected[0, 6], expected[1, 0] = 1.0, 2.0
    np.testing.assert_array_equal(values, picked(finite, ids))
    np.testing.assert_array_equal(gradient, expected)


def test_masked_values_copy_no_rows():
    shape = (64, 4096)

    def values(logits: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
        outputs = FullOutputs(batch={"targets": targets}, logits=logits)
        return CrossEntropy()(outputs.where(mask))

    compiled = (
        jax.jit(values)
        .lower(
            jax.ShapeDtypeStruct(shape, jnp.float32),
            jax.ShapeDtypeStruct(shape[:1], jnp.int32),
            jax.ShapeDtypeStruct(shape[:1], jnp.bool_),
        )
        .compile()
    )
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * np.prod(shape) / 4
