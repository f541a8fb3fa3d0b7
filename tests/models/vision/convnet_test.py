"""The convolutional classifier against loops of NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import ConvNet, sharding
from models.norms import GroupNorm
from tests.models.inputs import mesh_of
from tests.models.states import random_module

FIELDS = {"num_classes": 5, "channels": 2, "widths": (4, 8), "depth": 2, "groups": 2}


def images(count=8, *, channels=2):
    draw = np.random.default_rng(0)
    return {"images": jnp.asarray(np.float32(draw.random((count, 6, 5, channels))))}


def normalised(x, groups):
    """Image by image, group by group."""
    y, width = np.empty_like(x), x.shape[-1] // groups
    for image in range(len(x)):
        for start in range(0, x.shape[-1], width):
            part = x[image, ..., start : start + width]
            y[image, ..., start : start + width] = (part - part.mean()) / np.sqrt(
                part.var() + 1e-5
            )
    return y


def convolved(x, kernel, stride):
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    rows, columns = (range(0, length, stride) for length in x.shape[1:3])
    return np.stack(
        [
            np.stack(
                [
                    np.einsum("bijc,ijcd->bd", padded[:, r : r + 3, q : q + 3], kernel)
                    for q in columns
                ],
                axis=1,
            )
            for r in rows
        ],
        axis=1,
    )


def reference(model, x):
    """Logits, and the mean over places after each stage, float64."""
    x, pooled = (np.asarray(x, np.float64) - 0.5) / 0.5, []
    for i, stage in enumerate(model.stages):
        for layer, convolution in enumerate(stage):
            kernel = np.asarray(convolution.kernel[...], np.float64)
            y = convolved(x, kernel, 2 if i and not layer else 1)
            y = np.maximum(normalised(y, 2), 0)
            x = x + y if layer else y
        pooled.append(x.mean(axis=(1, 2)))
    hidden = pooled[-1] / np.sqrt(np.mean(pooled[-1] ** 2, -1, keepdims=True) + 1e-6)
    return hidden @ np.asarray(model.output[...], np.float64).T, pooled


def convnet():
    model = random_module(ConvNet, **FIELDS)
    for stage in model.stages:  # `random_module` fills vectors with ones
        for convolution in stage:
            convolution.norm.offset[...] = jnp.zeros_like(convolution.norm.offset[...])
    return model


@jax.jit
def outputs(model, batch):
    """Logits, and all intermediates."""
    trunk = model.trunk(batch, capture=model.offers())
    assert trunk.hidden.shape[-1] == model.dim
    return model.head(trunk.hidden), trunk.intermediates


def test_it_is_the_reference():
    model, batch = convnet(), images()
    logits, intermediates = outputs(model, batch)
    expected_logits, pooled = reference(model, batch["images"])
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-4)
    kinds = ("hidden", "patches")
    assert intermediates.keys() == {f"{kind}/{i}" for kind in kinds for i in (0, 1)}
    for i, expected in enumerate(pooled):
        np.testing.assert_allclose(
            intermediates[f"hidden/{i}"], expected, rtol=1e-4, atol=1e-5
        )
        means = np.mean(intermediates[f"patches/{i}"], axis=(1, 2))
        np.testing.assert_allclose(intermediates[f"hidden/{i}"], means, atol=1e-6)


def test_bytes_are_pixels_from_zero_to_one():
    model = convnet()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 5, 2), np.uint8)
    floats = {"images": jnp.asarray(pixels / 255, jnp.float32)}
    np.testing.assert_allclose(
        outputs(model, {"images": jnp.asarray(pixels)})[1]["hidden/1"],
        outputs(model, floats)[1]["hidden/1"],
        rtol=1e-5,
        atol=1e-6,
    )


def loss(graph, remat, params, batch):
    trunk = nnx.merge(graph, params).trunk(batch, remat=remat)
    return jnp.sum(jnp.sin(nnx.merge(graph, params).head(trunk.hidden)))


def placed_gradient(mesh=None, remat="none"):
    """Loss and gradient of the batch, over a mesh or on one device."""
    graph, state = nnx.split(convnet())
    params = nnx.to_pure_dict(state)
    if mesh is not None:
        params = jax.device_put(params, sharding.parameter_shardings(state, mesh))

    def run(params, batch):
        with sharding.use(mesh):
            return jax.value_and_grad(functools.partial(loss, graph, remat))(
                params, batch
            )

    return jax.jit(run)(params, images())


expected_gradient = functools.cache(placed_gradient)


@pytest.mark.parametrize(
    "remat",
    ["full", pytest.param("dots", marks=pytest.mark.slow)],
)
def test_remat_leaves_the_gradient_alone(remat):
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, placed_gradient(remat=remat), expected_gradient())


@pytest.mark.parametrize(
    "sizes",
    [
        {"data": 2, "fsdp": 2, "tensor": 2},
        *(
            pytest.param(sizes, marks=pytest.mark.slow)
            for sizes in ({"fsdp": 4, "tensor": 2}, {"data": 2, "fsdp": 4})
        ),
    ],
    ids=str,
)
def test_a_mesh_gives_the_gradients_of_one_device(sizes):
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, placed_gradient(mesh_of(**sizes)), expected_gradient())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": ()}, "widths must hold at least one width"),
        ({"widths": (4, 6), "groups": 4}, "6 channels do not divide into 4 groups"),
        ({"depth": 0}, "depth must be positive, got 0"),
        ({"pixel_stddev": 0.0}, "pixel_stddev must be positive, got 0.0"),
        ({"dtype": "float8"}, "dtype must be one of .* got 'float8'"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(fields, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: ConvNet(**(FIELDS | fields), rngs=nnx.Rngs(0)))


def test_other_images_than_it_was_made_for_are_refused():
    with pytest.raises(ValueError, match="any x any x 2; the data's are 6 x 5 x 3"):
        convnet().check_batch(images(channels=3))
    with pytest.raises(ValueError, match="ConvNet reads images; the data has tokens"):
        convnet().check_batch({"tokens": jnp.zeros((2, 3))})


def test_group_norm_sees_no_other_image():
    norm = GroupNorm(dim=4, groups=2, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (3, 5, 5, 4))
    run = jax.jit(norm.__call__)
    np.testing.assert_allclose(run(x)[:1], run(x[:1]), rtol=1e-6)
