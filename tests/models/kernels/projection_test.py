"""The head's matmul: products in the model's dtype, sums in float32, both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.kernels import projection


def inputs(dtype):
    random = np.random.default_rng(0)
    shapes = {"hidden": (3, 5, 8), "table": (11, 8), "cotangent": (3, 5, 11)}
    arrays = {name: random.normal(size=shape) for name, shape in shapes.items()}
    return {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()} | {
        name: jnp.asarray(arrays[name], dtype) for name in ("hidden", "table")
    }


def gradients(dtype, *, scale=1.0, input_dtype="float32"):
    x = inputs(input_dtype)
    _, pullback = jax.vjp(
        lambda hidden, table: projection.logits(hidden, table, dtype),
        x["hidden"],
        x["table"],
    )
    return pullback(scale * x["cotangent"])


def test_float32_is_the_plain_product():
    x = inputs("float32")
    plain, pullback = jax.vjp(lambda h, w: h @ w.T, x["hidden"], x["table"])
    outputs = projection.logits(x["hidden"], x["table"], "float32")
    np.testing.assert_allclose(outputs, plain, rtol=1e-6, atol=1e-6)
    for a, b in zip(gradients("float32"), pullback(x["cotangent"]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_products_are_summed_and_returned_wide(dtype):
    x = inputs("float32")
    narrow = {name: x[name].astype(dtype).astype(jnp.float32) for name in x}
    outputs = projection.logits(x["hidden"], x["table"], dtype)
    assert outputs.dtype == jnp.float32
    expected = narrow["hidden"] @ narrow["table"].T
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    for gradient in gradients(dtype):
        assert gradient.dtype == jnp.float32


def test_gradients_of_a_mean_over_many_tokens_survive_float16():
    """1e-9 is nothing in float16: its cotangents are not rounded."""
    small, large = gradients("float16", scale=1e-9), gradients("float16")
    for a, b in zip(small, large, strict=True):
        np.testing.assert_allclose(1e9 * a, b, rtol=1e-4, atol=1e-6)


def test_gradients_have_the_dtypes_of_the_inputs():
    for gradient in gradients("bfloat16", input_dtype="bfloat16"):
        assert gradient.dtype == jnp.bfloat16
