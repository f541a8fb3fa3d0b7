"""Centered kernel alignment against Gram matrices in float64 NumPy."""

import math

import numpy as np

import losses
from tests.losses.features.pairs import PAIRS, drawn, pair_outputs
from tests.losses.jitted import mean, mean_and_grad


def cka(x, y):
    """By Gram matrices of the tokens and HSIC, Kornblith et al. eq. 3 and 4."""
    count = len(x)
    centring = np.eye(count) - np.ones((count, count)) / count

    def hsic(k, m):
        return np.trace(k @ centring @ m @ centring)

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


def test_cka_is_that_of_gram_matrices_in_float64():
    x, y = drawn(20, 5) + 2.0, drawn(20, 3, seed=1)
    y = y + x[:, :3]
    mask = drawn(20, seed=2) > -0.5
    actual = mean(losses.CKA(layers=PAIRS), pair_outputs(x, y, mask=mask))
    np.testing.assert_allclose(actual, 1 - cka(x[mask], y[mask]), rtol=1e-5)
    assert 0.1 < actual < 0.9


def test_the_gradient_of_cka_is_that_of_finite_differences_of_gram_matrices():
    x, y = drawn(8, 3) + 1.0, drawn(8, 4, seed=1)
    mask = np.arange(8) != 3
    outputs = pair_outputs(x, y, mask=mask)
    _, actual = mean_and_grad(losses.CKA(layers=PAIRS), outputs, "hidden/0")
    expected = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-5
        up, down = (cka((x + s)[mask], y[mask]) for s in (step, -step))
        expected[place] = -(up - down) / 2e-5
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-6)


def test_cka_and_its_gradient_are_exact_for_features_far_from_zero():
    random = np.random.default_rng(3)
    mask = random.random(20) < 0.7
    x, y = (random.normal(size=(20, width)) for width in (6, 4))
    x, y = (z + random.normal(size=z.shape[-1]) * 2000.0 for z in (x, y))
    x, y = (z.astype(np.float32) for z in (x, y))

    def value_and_grad(x, y):
        outputs = pair_outputs(x, y, mask=mask)
        return mean_and_grad(losses.CKA(layers=PAIRS), outputs, "hidden/0")

    actual, gradient = value_and_grad(x, y)
    exact = cka(*(np.float64(z[mask]) for z in (x, y)))
    np.testing.assert_allclose(actual, 1 - exact, rtol=1e-5)
    # Around the mean in float64, where nothing is far from zero.
    near = [np.float64(z) - np.mean(z[mask], axis=0, dtype=np.float64) for z in (x, y)]
    _, expected = value_and_grad(*near)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_cka_sees_no_rotation_offset_or_scale():
    x = drawn(30, 4)
    rotation = np.linalg.qr(drawn(4, 4, seed=3))[0]
    loss = losses.CKA(layers=PAIRS)
    np.testing.assert_allclose(mean(loss, pair_outputs(x, x)), 0.0, atol=1e-6)
    np.testing.assert_allclose(
        mean(loss, pair_outputs(x, -3.0 * x @ rotation + 5.0)), 0.0, atol=1e-5
    )
    stretched = x * np.array([1.0, 1.0, 1.0, 9.0])
    assert mean(loss, pair_outputs(x, stretched)) > 0.1


def test_cka_of_orthogonal_features_is_zero_and_of_half_of_them_known():
    """Columns of a Hadamard matrix: X has two of them, Y one of these and two more."""
    signs = np.array(
        [[(-1) ** (i & j).bit_count() for j in range(8)] for i in range(8)]
    )
    loss = losses.CKA(layers=PAIRS)
    x = signs[:, 1:3]
    np.testing.assert_allclose(
        mean(loss, pair_outputs(x, signs[:, 3:6])), 1.0, atol=1e-6
    )
    actual = mean(loss, pair_outputs(x, signs[:, 2:5]))
    np.testing.assert_allclose(actual, 1 - 1 / math.sqrt(6), rtol=1e-5)


def test_a_student_that_says_the_same_of_every_token_is_not_similar():
    outputs = pair_outputs(np.ones((6, 3)), drawn(6, 2))
    loss = losses.CKA(layers=PAIRS)
    actual, gradient = mean_and_grad(loss, outputs, "hidden/0")
    assert actual == 1.0 and np.all(np.isfinite(gradient))
