import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import rope
from models.rope_scaling import Linear, Llama3, LongRoPE, PerFrequency, YaRN


def angles(positions, head_dim, *, lengths=None, **options):
    """Cosines and sines, on the host, of one program."""
    of_head = functools.partial(rope.angles, head_dim=head_dim, **options)
    positions = np.asarray(positions, np.int32)
    return jax.device_get(
        jax.jit(lambda at, of: of_head(at, lengths=of))(positions, lengths)
    )


def scaled_frequencies(scaling, plain):
    """Frequencies as a scaling leaves them, on the host, of one program."""
    return jax.device_get(jax.jit(scaling)(np.asarray(plain, np.float32)))


def llama3(**fields):
    usual = {"factor": 8.0, "low_turns": 1.0, "high_turns": 4.0, "original_length": 100}
    return Llama3(**(usual | fields))


def test_linear_is_smaller_positions():
    positions = np.arange(12)[None]
    scaled = angles(positions, 8, base=100.0, scaling=Linear(factor=4.0))
    plain = angles(positions[:, :3], 8, base=100.0)
    for got, expected in zip(scaled, plain, strict=True):
        np.testing.assert_allclose(got[:, ::4], expected, atol=1e-6)


def test_llama3_spares_fast_rotations_and_slows_the_others():
    turns = np.array([5.0, 4.0, 2.5, 1.0, 0.5])
    frequencies = np.float32(turns * 2 * np.pi / 100)
    expected = [1, 1, (1 + 1 / 8) / 2, 1 / 8, 1 / 8]
    got = scaled_frequencies(llama3(), frequencies)
    np.testing.assert_allclose(got / frequencies, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("base", "head_dim", "length", "truncate"),
    [(1e6, 128, 32_768, True), (1.5e5, 64, 4_096, False), (100.0, 8, 64, True)],
    ids=["qwen", "gpt-oss", "small"],
)
def test_yarn_is_the_formula_in_float64(base, head_dim, length, truncate):
    numbers = np.arange(head_dim // 2)
    plain = base ** (-2 * numbers / head_dim)

    def number_of(turns: float) -> float:
        return head_dim * np.log(length / (turns * 2 * np.pi)) / (2 * np.log(base))

    low, high = number_of(32.0), number_of(1.0)
    if truncate:
        low, high = np.floor(low), np.ceil(high)
    share = np.clip((numbers - max(low, 0)) / (high - max(low, 0)), 0, 1)
    expected = plain / 8 * share + plain * (1 - share)
    scaling = YaRN(factor=8.0, original_length=length, truncate=truncate)
    got = scaled_frequencies(scaling, plain)
    np.testing.assert_allclose(got, expected, rtol=2e-6)


def test_longrope_goes_by_the_length_of_each_document():
    scaling = LongRoPE(
        short=(1.0, 2.0), long=(3.0, 8.0), original_length=4, amplitude=1.5
    )
    # Of 4 tokens, of 5, and one more; the next row is one of 10.
    positions = np.array([[*range(4), *range(5), 0], [*range(10)]])
    long = np.array([[False] * 4 + [True] * 5 + [False], [True] * 10])
    factors = np.where(long[..., None], [3.0, 8.0], [1.0, 2.0])
    angle = positions[..., None] * [1.0, 0.1] / factors
    cos, sin = angles(positions, 4, base=100.0, scaling=scaling)
    np.testing.assert_allclose(cos, 1.5 * np.cos(angle), atol=1e-6)
    np.testing.assert_allclose(sin, 1.5 * np.sin(angle), atol=1e-6)
    # Of rows that are parts of documents, by the lengths of these.
    parts, lengths = [[2, 3], [8, 9]], np.array([4, 10], np.int32)
    cos, _ = angles(parts, 4, base=100.0, scaling=scaling, lengths=lengths)
    expected = [[2 * 0.1 / 2, 3 * 0.1 / 2], [8 * 0.1 / 8, 9 * 0.1 / 8]]
    np.testing.assert_allclose(cos[..., 1], 1.5 * np.cos(expected), atol=1e-6)
    # A row of many positions is one document too.
    many = np.arange(512)
    cos, _ = angles(many[None], 4, base=100.0, scaling=scaling)
    expected = 1.5 * np.cos(many[:, None] * [1.0 / 3.0, 0.1 / 8.0])
    np.testing.assert_allclose(cos[0], expected, atol=1e-4)
    with pytest.raises(ValueError, match="short and long must be as many, got 1 and 2"):
        LongRoPE(short=(1.0,), long=(1.0, 2.0), original_length=4)


def test_yarn_multiplies_cosines_and_sines():
    positions = np.arange(12)[None]
    scaling = YaRN(factor=8.0, original_length=64)
    cos, sin = angles(positions, 8, base=100.0, scaling=scaling)
    np.testing.assert_allclose(cos**2 + sin**2, (0.1 * np.log(8) + 1) ** 2, rtol=1e-6)
    one = YaRN(factor=8.0, original_length=64, amplitude=0.5)
    cos, _ = angles(positions, 8, base=100.0, scaling=one)
    np.testing.assert_allclose(cos[0, 0], 0.5)
    assert scaled_frequencies(scaling, [1.0]) == 1


def test_divided_is_one_factor_a_frequency():
    got = scaled_frequencies(PerFrequency(factors=(1.0, 4.0)), [1.0, 0.5])
    np.testing.assert_allclose(got, [1.0, 0.125])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(factor=0.0), "factor must be positive, got 0.0"),
        (lambda: llama3(low_turns=-1.0), "low_turns must be positive, got -1.0"),
        (lambda: llama3(high_turns=1.0), "high_turns must be above low_turns, got 1.0"),
        (lambda: PerFrequency(factors=(1.0, -2.0)), "factors must be positive"),
        (
            lambda: YaRN(factor=2.0, original_length=8, slow_turns=40.0),
            "fast_turns must be above slow_turns, got 32.0 and 40.0",
        ),
        (
            lambda: YaRN(factor=2.0, original_length=8, amplitude=0.0),
            "amplitude must be positive, got 0.0",
        ),
        (
            lambda: PerFrequency(factors=(1.0,))(jnp.ones(2)),
            "factors must be 2, half of",
        ),
    ],
)
def test_a_wrong_field_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
