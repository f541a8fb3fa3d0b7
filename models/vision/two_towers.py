"""Images and texts in one space: two towers, and classes told by their prompts."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import checks, sharding
from models.base import Batch, Model, TrunkOutput, check_capture
from models.initializers import FAN_IN, Initializer
from models.running.state import Running

CAPTIONS = "captions"
"""Entry of the batch: ids of a text for each image, int32 `[b n]`, -1 after them."""

MAX_SCALE = 100.0
_OF_TEXT = frozenset({"text", "scaled_text"})
_TINY = 1e-12


class TwoTowers(Model):
    """An image tower and a text tower that end in vectors of norm 1 (CLIP).

        logits_c = s <f(x), g_c>        s = min(e^τ, 100), τ is learned

    f is the image tower, whose head is as wide as the shared space; g the text tower's
    state at a text's last token, projected. `g_c` is the mean of g over the prompts of
    class c, at norm 1 again: a classifier that saw no label, only texts
    (`losses.ImageTextContrast`). Logits are made in the trunk, which is all that its
    `hidden` states are; the head hands them on.

    Texts are `captions` `[b n]` of the batch (`data.Captions`; `data.Columns` for ids
    of your own). Prompts are their UTF-8 bytes, as those of `data.Captions` are; or the
    ids themselves.

    Args:
      image: called with `num_classes=dim` and `rngs=`: `models.ConvNet`, say.
      text: called with `rngs=`: a `models.Transformer` with `tie_head=True`, whose head
        nothing reads.
      prompts: of each class, texts, or lists of ids: as many of each class.
      dim: of the shared space.
      temperature: `1 / s` to begin with.
      init: of the projection of texts.
      rngs: of the initial values.

    Intermediates, of `[b dim]`: `image` and `text`, of norm 1; `scaled_text`, s times
    that, so that its product with `image` is the logit of a pair. The text tower reads
    captions where one of the last two is captured.

    Source: Radford et al. 2021, CLIP (arXiv:2103.00020), figure 3 and section 3.1.4.

    Raises:
      ValueError: a class has no prompt, or another number of them; a prompt is empty or
        has an id that the text tower has not; a tower draws, or has running state.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"images", CAPTIONS})

    def __init__(
        self,
        *,
        image: Callable[..., Model],
        text: Callable[..., Model],
        prompts: Sequence[Sequence[str | Sequence[int]]],
        dim: int = 64,
        temperature: float = 0.07,
        init: Initializer = FAN_IN,
        rngs: nnx.Rngs,
    ):
        checks.positive(dim=dim, temperature=temperature)
        self.prompts = tuple(_of_class(i, x) for i, x in enumerate(prompts))
        if len({len(x) for x in self.prompts} | {0}) != 2:
            raise ValueError(
                "prompts must hold as many of each class, and at least one"
            )
        self.dim = self.num_outputs = len(prompts)
        self.image_tower = image(num_classes=dim, rngs=rngs)
        self.text_tower = text(rngs=rngs)
        for tower in (self.image_tower, self.text_tower):
            _check_tower(tower)
        every = [x for of_class in self.prompts for ids in of_class for x in ids]
        self._check_ids("a prompt", max(every))
        shape = (self.text_tower.dim, dim)
        self.projection = sharding.parameter(
            init, rngs, shape, axes=("embed", None), dtype="float32"
        )
        start = jax.nn.initializers.constant(-math.log(temperature))
        self.log_scale = sharding.parameter(start, rngs, (), axes=(), dtype="float32")

    def trunk(
        self,
        batch: Batch,
        *,
        capture: frozenset[str] = frozenset(),
        remat: str = "none",
    ) -> TrunkOutput:
        """Run the image tower over `images`, the text tower over prompts, captions."""
        check_capture(capture, self.offers())
        of_image = self.image_tower.trunk(batch, remat=remat).hidden
        image = unit(self.image_tower.head(of_image))
        scale = jnp.minimum(jnp.exp(self.log_scale[...]), MAX_SCALE)
        captured = {"image": image}
        if capture & _OF_TEXT:
            if CAPTIONS not in batch:
                raise ValueError(
                    f"TwoTowers reads {CAPTIONS}, and the data has none: "
                    "data.Captions(data) joins them"
                )
            text = self.embed_texts(batch[CAPTIONS], remat=remat)
            captured |= {"text": text, "scaled_text": scale * text}
        logits = image @ (scale * self.embed_classes(remat=remat)).T
        return TrunkOutput(
            hidden=sharding.constrain(logits, ("batch", None)),
            intermediates={path: captured[path] for path in capture},
        )

    def head(self, hidden: jax.Array) -> jax.Array:
        """Return the logits that the trunk made, float32."""
        return hidden.astype(jnp.float32)

    def offers(self) -> frozenset[str]:
        """Return `image`, `text` and `scaled_text`."""
        return _OF_TEXT | {"image"}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        self.image_tower.check_batch(batch)
        if isinstance(batch[CAPTIONS], np.ndarray):  # of data; a step has shapes alone
            self._check_ids("a caption", int(batch[CAPTIONS].max(initial=-1)))

    def _check_ids(self, what: str, largest: int) -> None:
        size = self.text_tower.num_outputs
        if largest >= size:
            raise ValueError(
                f"{what} has the id {largest}, the text tower has {size} "
                f"(text.vocab_size={largest + 1}; 256 of bytes)"
            )

    def embed_texts(self, ids: jax.Array, *, remat: str = "none") -> jax.Array:
        """Return embeddings of norm 1, `[n dim]`.

        Args:
          ids: of texts, `[n t]`, -1 after the last; a text of none may have any.
          remat: as of `trunk`.
        """
        there = ids >= 0
        places = jnp.arange(ids.shape[1], dtype=jnp.int32)
        rows = {
            "tokens": jnp.where(there, ids, 0),
            "segment_ids": there.astype(jnp.int32),
            "positions": jnp.broadcast_to(places, ids.shape),
        }
        states = self.text_tower.trunk(rows, remat=remat).hidden
        last = jnp.maximum(jnp.sum(there, axis=1, dtype=jnp.int32) - 1, 0)
        state = jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]
        return unit(state.astype(jnp.float32) @ self.projection[...])

    def embed_classes(self, *, remat: str = "none") -> jax.Array:
        """Return the mean of each class's prompts, of norm 1, `[classes dim]`."""
        every = [ids for of_class in self.prompts for ids in of_class]
        texts = self.embed_texts(jnp.asarray(padded(every)), remat=remat)
        return unit(jnp.mean(texts.reshape((self.num_outputs, -1, texts.shape[1])), 1))


def unit(x: jax.Array) -> jax.Array:
    """Return `x / ‖x‖`, float32, along the last axis; zeros stay zeros."""
    wide = x.astype(jnp.float32)
    squared = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
    return wide * jax.lax.rsqrt(squared + _TINY)


def padded(texts: Sequence[Sequence[int]], length: int | None = None) -> np.ndarray:
    """Return lists of ids as one array, int32 `[n length]`, -1 after the last of each.

    Args:
      texts: at least one.
      length: of the longest that may be there; None for that of the longest.

    Raises:
      ValueError: one is empty or longer.
    """
    sizes = [len(x) for x in texts]
    longest = max(sizes) if length is None else length
    for text, size in enumerate(sizes):
        if not 0 < size <= longest:
            raise ValueError(f"text {text} has {size} ids; wanted: 1 to {longest}")
    rows = np.full((len(texts), longest), -1, np.int32)
    for row, ids in zip(rows, texts, strict=True):
        row[: len(ids)] = list(ids)
    return rows


def _of_class(
    number: int, prompts: Sequence[str | Sequence[int]]
) -> tuple[tuple[int, ...], ...]:
    """Return the ids of a class's prompts.

    Raises:
      ValueError: it is one text, or a prompt is empty or has an id below 0.
    """
    if isinstance(prompts, str):
        raise ValueError(
            f"prompts of class {number} must be a list of texts, got {prompts!r}; "
            f"wanted: [{prompts!r}]"
        )
    texts = [tuple(x.encode() if isinstance(x, str) else x) for x in prompts]
    for text in texts:
        if not text or min(text) < 0:
            fault = f"has the id {min(text)}" if text else "is empty"
            raise ValueError(f"a prompt of class {number} {fault}")
    return tuple(texts)


def _check_tower(tower: Model) -> None:
    if jax.tree.leaves(nnx.state(tower, Running)):
        raise ValueError(
            "TwoTowers takes towers without running state, as GroupNorm's; got "
            f"{type(tower).__name__} with BatchNorm, or the like"
        )
    if tower.draws:
        raise ValueError(
            f"TwoTowers takes towers that draw nothing, got {type(tower).__name__}"
        )
