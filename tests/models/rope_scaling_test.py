import jax.numpy as jnp
import numpy as np
import pytest

from models import rope
from models.rope_scaling import Linear, Llama3, PerFrequency


def llama3(**fields):
    usual = {"factor": 8.0, "low_turns": 1.0, "high_turns": 4.0, "original_length": 100}
    return Llama3(**(usual | fields))


def test_linear_is_smaller_positions():
    positions = jnp.arange(12)[None]
    scaled = rope.angles(positions, 8, base=100.0, scaling=Linear(factor=4.0))
    plain = rope.angles(positions[:, :3], 8, base=100.0)
    for got, expected in zip(scaled, plain, strict=True):
        np.testing.assert_allclose(got[:, ::4], expected, atol=1e-6)


def test_llama3_spares_fast_rotations_and_slows_the_others():
    turns = np.array([5.0, 4.0, 2.5, 1.0, 0.5])
    frequencies = jnp.asarray(turns * 2 * np.pi / 100, jnp.float32)
    expected = [1, 1, (1 + 1 / 8) / 2, 1 / 8, 1 / 8]
    np.testing.assert_allclose(llama3()(frequencies) / frequencies, expected, rtol=1e-6)


def test_divided_is_one_factor_a_frequency():
    got = PerFrequency(factors=(1.0, 4.0))(jnp.asarray([1.0, 0.5], jnp.float32))
    np.testing.assert_allclose(got, [1.0, 0.125])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(factor=0.0), "factor must be positive, got 0.0"),
        (lambda: llama3(low_turns=-1.0), "low_turns must be positive, got -1.0"),
        (lambda: llama3(high_turns=1.0), "high_turns must be above low_turns, got 1.0"),
        (lambda: PerFrequency(factors=(1.0, -2.0)), "factors must be positive"),
        (
            lambda: PerFrequency(factors=(1.0,))(jnp.ones(2)),
            "factors must be 2, half of",
        ),
    ],
)
def test_a_wrong_field_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
