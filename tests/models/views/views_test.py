"""Views: the worst of a ball, hidden rows, and what a model offers of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Ascent, ConvNet, Hidden, Imputer, Transformer, Views
from models.base import TrunkOutput
from models.views import balls, captions

WEIGHTS = np.array([0.3, -0.7, 0.2, -0.1], np.float32)


class Line:
    """Two classes of the logits 0 and `w · x`."""

    def trunk(self, batch):
        rows = batch["images"].reshape(len(batch["images"]), -1)
        return TrunkOutput(hidden=rows, intermediates={})

    def head(self, hidden):
        line = hidden @ WEIGHTS
        return jnp.stack([jnp.zeros_like(line), line], axis=-1)


def images(count=3):
    rows = np.full((count, 2, 2, 1), 0.5, np.float32)
    rows[0, 0, 1] = 0.98  # at the edge of what pixels can be
    return {
        "images": rows,
        "targets": np.array([1, 0, 1], np.int32)[:count],
        "mask": np.array([True, True, False])[:count],
        "row_seed": np.arange(count, dtype=np.uint32),
    }


def worst(norm, radius):
    """The worst shift of a line, in closed form: the dual norm's."""
    w = WEIGHTS.astype(np.float64)
    return {
        "linf": radius * np.sign(w),
        "l2": radius * w / np.linalg.norm(w),
        "l1": radius * np.sign(w) * (np.abs(w) == np.abs(w).max()),
    }[norm]


def test_ascent_reaches_the_worst_of_the_ball_and_stays_in_the_pixels():
    radius, batch = 0.1, images()
    for norm, order in {"linf": np.inf, "l2": 2, "l1": 1}.items():
        view = Ascent(radius=radius, norm=norm, steps=8, start="center")
        shift = np.asarray(view(Line(), batch)["images"] - batch["images"])
        shift = shift.reshape(3, 4)
        np.testing.assert_allclose(shift[1], worst(norm, radius), atol=1e-6)  # class 0
        if norm == "linf":  # class 1 goes down the line, as far as pixels go
            expected = np.minimum(-worst(norm, radius), [1.0, 0.02, 1.0, 1.0])
            np.testing.assert_allclose(shift[0], expected, atol=1e-6)
        assert not np.any(shift[2])  # has no target
        drawn = Ascent(radius=radius, norm=norm, steps=2)(Line(), batch)["images"]
        shift = np.asarray(drawn - batch["images"], np.float64).reshape(3, 4)
        assert np.all(np.linalg.norm(shift, ord=order, axis=1) <= radius * (1 + 1e-5))
        assert np.all((np.asarray(drawn) >= 0.0) & (np.asarray(drawn) <= 1.0))
        assert np.any(shift[2])  # starts at random


def test_projections_are_the_nearest_points_of_a_ball():
    rows = np.random.default_rng(0).normal(size=(5, 7))
    rows[0] *= 0.01  # inside
    for norm, order in (("l1", 1), ("l2", 2)):
        nearest = np.asarray(balls.BALLS[norm].project(jnp.asarray(rows), 0.6))
        np.testing.assert_allclose(nearest[0], rows[0], rtol=1e-6)
        size = np.linalg.norm(nearest[1:], ord=order, axis=1)
        np.testing.assert_allclose(size, 0.6, rtol=1e-6)
        # No nearer point lies towards any other of the ball: <x - p, q - p> <= 0.
        corners = np.concatenate([0.6 * np.eye(7), -0.6 * np.eye(7), nearest])
        for x, p in zip(rows, nearest, strict=True):
            assert np.max((corners - p) @ (x - p)) <= 1e-6


def test_no_radius_is_the_batch_and_a_view_of_a_row_depends_on_no_other_row():
    batch = images()
    assert Ascent(radius=0.0, objective="margins")(Line(), batch) is batch
    clean = Hidden(share=0.0)(Line(), batch)
    np.testing.assert_array_equal(clean["images"], batch["images"])
    gone = Hidden(share=1.0, pixel=0.25)(Line(), batch)
    np.testing.assert_array_equal(gone["images"], np.full_like(batch["images"], 0.25))
    for view in (Ascent(radius=0.1, steps=2), Hidden(share=0.5)):
        whole = view(Line(), batch)["images"]
        alone = view(Line(), jax.tree.map(lambda x: x[1:2], batch))["images"]
        np.testing.assert_array_equal(alone, whole[1:2])


def test_a_model_with_views_is_the_same_model_and_offers_them():
    model = functools.partial(
        Transformer, vocab_size=7, dim=8, num_layers=1, num_heads=2
    )
    views = {"attack": Ascent(radius=0.5, of="embeddings"), "part": Hidden(share=0.5)}

    def make():
        return Views(model=model, views=views, rngs=nnx.Rngs(0))

    viewed, plain = (nnx.eval_shape(f) for f in (make, lambda: model(rngs=nnx.Rngs(0))))
    assert isinstance(viewed, Transformer)
    paths = [nnx.to_pure_dict(nnx.state(x)) for x in (viewed, plain)]
    assert jax.tree.structure(paths[0]) == jax.tree.structure(paths[1])
    assert viewed.offers() - plain.offers() >= {
        "view/attack/logits",
        "view/part/trunk",
        "view/part/hidden/0",
    }
    assert viewed.draws
    assert not plain.draws

    def trunk(batch):
        return make().trunk(batch, capture=frozenset({"view/attack/logits"}))

    batch = {
        name: jax.ShapeDtypeStruct((2, 3), np.int32)
        for name in ("tokens", "targets", "segment_ids", "positions")
    }
    batch["mask"] = jax.ShapeDtypeStruct((2, 3), bool)
    batch["row_seed"] = jax.ShapeDtypeStruct((2,), np.uint32)
    seen = jax.eval_shape(trunk, batch).intermediates
    assert {path: x.shape for path, x in seen.items()} == {
        "view/attack/logits": (2, 3, 7)
    }
    with pytest.raises(ValueError, match="flat at the center"):
        Ascent(radius=0.1, objective="divergence", start="center")
    with pytest.raises(ValueError, match=r"one of \['l1', 'l2', 'linf'\], got 'l0'"):
        Ascent(radius=0.1, norm="l0")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="at least one view"):
        Views(model=ConvNet, views={}, rngs=nnx.Rngs(0))


def test_the_contrast_of_a_group_is_clips_whatever_it_is_cut_into():
    images, texts = np.random.default_rng(0).normal(size=(2, 8, 3))
    mask = np.arange(8) != 6
    arrays = (jnp.asarray(x, jnp.float32) for x in (images, texts))
    contrast = jax.jit(functools.partial(captions.contrast, group=2))
    values = np.asarray(contrast(*arrays, mask))
    for row in np.flatnonzero(mask):
        rows = [x for x in (row % 4, row % 4 + 4) if mask[x]]
        by_image = np.exp(images[row] @ texts[rows].T)
        by_text = np.exp(images[rows] @ texts[row])
        own = np.exp(images[row] @ texts[row])
        expected = -0.5 * np.log(own / by_image.sum() * own / by_text.sum())
        np.testing.assert_allclose(values[row], expected, rtol=1e-4)
    assert np.all(np.isfinite(values))
    with pytest.raises(ValueError, match="groups of 3 rows do not divide"):
        captions.contrast(jnp.ones((8, 3)), jnp.ones((8, 3)), jnp.ones(8), group=3)
    with pytest.raises(ValueError, match="group is of the objective 'captions'"):
        Ascent(radius=0.1, objective="captions")


@pytest.mark.parametrize("view", [Ascent(radius=0.1), Hidden(share=0.5)])
def test_a_view_of_what_a_batch_has_not_names_the_model(view):
    model = functools.partial(Imputer, channels=2, num_steps=3, latent_dim=2)
    viewed = nnx.eval_shape(
        lambda: Views(model=model, views={"a": view}, rngs=nnx.Rngs(0))
    )
    name = type(view).__name__
    with pytest.raises(ValueError, match=f"{name}.* Imputer reads observed, values"):
        view(viewed, {"users": np.zeros(2)})
