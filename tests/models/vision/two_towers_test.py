"""Two towers: a text is the same however it is padded, classes are their prompts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import BatchNorm, TwoTowers
from models.base import Model, TrunkOutput
from models.vision import two_towers


class Sums(Model):
    """Reads what its batch's entry has summed up to each place."""

    dim, num_outputs = 3, 300
    reads = frozenset()

    def __init__(self, *, entry, num_classes=3, rngs):
        self.entry, self.table = entry, nnx.Param(rngs.normal((300, num_classes)))

    def trunk(self, batch, *, capture=frozenset(), remat="none"):
        x = batch[self.entry]
        along = jnp.cumsum(self.table[...][x], axis=1)
        hidden = along[:, -1] if self.entry == "images" else along
        return TrunkOutput(hidden=hidden, intermediates={})

    def head(self, hidden):
        return hidden

    def offers(self):
        return frozenset()


def table_of(tower):
    assert isinstance(tower, Sums)
    return tower.table[...]


def test_logits_are_those_of_the_mean_prompt_of_each_class():
    model = TwoTowers(
        image=functools.partial(Sums, entry="images"),
        text=functools.partial(Sums, entry="tokens"),
        prompts=[["an a", "a"], ["b", [98, 99]]],
        dim=3,
        temperature=0.5,
        rngs=nnx.Rngs(0),
    )
    images = np.array([[1, 2], [5, 7]], np.int32)
    captions = two_towers.padded([b"a", b"bc"], 5)

    def run(images, captions):
        outputs = model.trunk(
            {"images": images, "captions": captions},
            capture=frozenset({"image", "text", "scaled_text"}),
        )
        return model.head(outputs.hidden), outputs.intermediates

    logits, captured = jax.jit(run)(images, captions)

    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def text(ids):
        table = np.asarray(table_of(model.text_tower), np.float64)
        return unit(table[list(ids)].sum(0) @ np.asarray(model.projection[...]))

    tables = np.asarray(table_of(model.image_tower), np.float64)
    image = unit(tables[images].sum(1))
    classes = unit(np.stack([text(b"an a") + text(b"a"), text(b"b") + text(b"bc")]) / 2)
    np.testing.assert_allclose(logits, 2.0 * image @ classes.T, rtol=1e-4)
    np.testing.assert_allclose(captured["image"], image, rtol=1e-4)
    of_texts = np.stack([text(b"a"), text(b"bc")])
    np.testing.assert_allclose(captured["text"], of_texts, rtol=1e-4)
    np.testing.assert_allclose(captured["scaled_text"], 2.0 * of_texts, rtol=1e-4)
    with pytest.raises(ValueError, match="the data has none"):
        model.trunk({"images": images}, capture=frozenset({"text"}))


class Running(Sums):
    def __init__(self, **fields):
        super().__init__(**fields)
        self.norm = BatchNorm(dim=3, ghost=1, rngs=fields["rngs"])


class Drawing(Sums):
    draws = True


def test_towers_and_prompts_that_do_not_fit_are_named():
    def make(prompts, kind=Sums):
        return TwoTowers(
            image=functools.partial(kind, entry="images"),
            text=functools.partial(Sums, entry="tokens"),
            prompts=prompts,
            rngs=nnx.Rngs(0),
        )

    for prompts, message in (
        (["zero", "ones"], r"class 0 must be a list of texts, got 'zero'"),
        ([["a"], [""]], "a prompt of class 1 is empty"),
        ([["a"], [[5, -1]]], "a prompt of class 1 has the id -1"),
        ([["a"], [[300]]], r"the id 300, the text tower has 300 \(text.vocab_size=301"),
    ):
        with pytest.raises(ValueError, match=message):
            make(prompts)
    with pytest.raises(ValueError, match="without running state, as GroupNorm's; got"):
        make([["a"]], Running)
    with pytest.raises(ValueError, match="draw nothing, got Drawing"):
        make([["a"]], Drawing)
    rows = {"images": np.zeros((1, 2), np.int32), "captions": np.array([[5, 300]])}
    with pytest.raises(ValueError, match="a caption has the id 300"):
        make([["a"]]).check_batch(rows)
