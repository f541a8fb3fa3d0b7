import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import rope
from tests.models.inputs import reference_rotation


def rotated(x, positions, layout="split", width=None):
    """Features turned by their positions, on the host, of one program."""

    @jax.jit
    def rotate(x, positions):
        tables = rope.angles(positions, width or x.shape[-1], base=100.0)
        return rope.rotate(x, tables, layout=layout)

    arrays = np.asarray(x, np.float32), np.asarray(positions, np.int32)
    return jax.device_get(rotate(*arrays))


@pytest.mark.parametrize("layout", rope.LAYOUTS)
def test_pairs_turn_by_position_times_frequency(layout):
    draw = np.random.default_rng(0)
    x, positions = draw.normal(size=(2, 5, 3, 8)), draw.integers(0, 50, (2, 5))
    expected = reference_rotation(x, positions, 100.0, layout)
    np.testing.assert_allclose(
        rotated(x, positions, layout=layout), expected, atol=2e-5
    )


def test_a_permutation_turns_one_layout_into_the_other():
    x = np.random.default_rng(0).normal(size=(1, 4, 2, 8))
    positions = np.arange(4)[None]
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])
    split = rotated(x[..., order], positions, layout="split")
    interleaved = rotated(x, positions, layout="interleaved")
    np.testing.assert_allclose(split, interleaved[..., order], atol=1e-6)


def test_scores_depend_on_the_distance_alone():
    query, key = np.random.default_rng(0).normal(size=(2, 1, 1, 1, 8))

    def score(at, to):
        return np.sum(rotated(query, [[at]]) * rotated(key, [[to]]))

    np.testing.assert_allclose(score(7, 3), score(24, 20), rtol=1e-4)


def test_features_beyond_the_rotated_ones_stay():
    x = np.random.default_rng(0).normal(size=(1, 5, 2, 8)).astype(np.float32)
    positions = np.arange(5)[None]
    of_all = rotated(x, positions, width=4)
    np.testing.assert_array_equal(of_all[..., 4:], x[..., 4:])
    np.testing.assert_array_equal(of_all[..., :4], rotated(x[..., :4], positions))


@pytest.mark.parametrize("rope_dim", [0, 3, 10])
def test_a_width_that_no_head_has_is_named(rope_dim):
    with pytest.raises(ValueError, match=rf"from 2 to head_dim \(8\), got {rope_dim}"):
        rope.check_width(rope_dim, 8)


def test_cosines_of_many_positions_are_computed_once():
    """XLA on a CPU makes them a part of each operation that reads them, else."""
    positions = jnp.arange(256).reshape(2, 128) % 100

    def loss(x):
        tables = rope.angles(positions, 8, base=100.0)
        turned = rope.rotate(jnp.square(x), tables, layout="split")
        scores = jnp.einsum("bthf,bthg->bhfg", turned, turned)
        return jnp.sum(jnp.square(scores)), tables

    gradient = jax.jit(jax.grad(loss, has_aux=True))
    compiled = gradient.lower(jnp.ones((2, 128, 2, 8))).compile()
    assert compiled.as_text().count(" cosine(") == 1
    _, (cos, sin) = compiled(jnp.ones((2, 128, 2, 8)))
    angle = np.asarray(positions)[..., None] * 100.0 ** -(np.arange(0, 8, 2) / 8)
    np.testing.assert_allclose(cos, np.cos(angle), atol=2e-5)
    np.testing.assert_allclose(sin, np.sin(angle), atol=2e-5)
