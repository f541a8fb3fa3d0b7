"""Attacked view: inputs moved uphill of an objective, within a ball."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from models import checks
from models.base import EMBEDDING_SHIFT, Batch, Model, row_keys
from models.views import adaptive, captions
from models.views.balls import BALLS
from models.views.view import View, pixels


def _labels(logits: jax.Array, clean: jax.Array, targets: jax.Array) -> jax.Array:
    del clean
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def _margins(logits: jax.Array, clean: jax.Array, targets: jax.Array) -> jax.Array:
    moved = logits - clean
    at_target = jnp.take_along_axis(moved, targets[..., None], axis=-1)
    return jnp.sum(jnp.square(at_target - moved), axis=-1)


def _divergence(logits: jax.Array, clean: jax.Array, targets: jax.Array) -> jax.Array:
    del targets
    log_p, log_q = jax.nn.log_softmax(clean), jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


OBJECTIVES = {"labels": _labels, "margins": _margins, "divergence": _divergence}
"""Functions of logits of the view, of the batch, and targets, to a value `[*b]`."""

CAPTIONS = "captions"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ascent(View):
    """`x + δ_n`, with `δ_{i+1} = P(δ_i + step · u(∇f))` and `‖P(·)‖ ≤ radius`.

    Projected ascent: f is the sum over a row's targets, u the step of norm 1 that
    climbs the most: the sign of the gradient, the gradient over its norm, or, of l1,
    equal parts along the steepest twentieth of the entries. The ball is a row's, an
    image's or a text's. Images stay in [0, 1] besides. At `radius` 0 the view is the
    batch, and costs no step.

    It costs `steps` passes forward and backward beside that over the view, and holds
    whole rows of logits; that of the divergence and of the margins starts at random,
    since both are flat at the start.

    Source: Madry et al. 2017 (arXiv:1706.06083), section 2.1, of images; Miyato et al.
    2016 (arXiv:1605.07725), of embeddings; l1: Tramèr and Boneh 2019
    (arXiv:1904.13000), section 4.1.

    Attributes:
      radius: of the ball, in pixels of [0, 1] or units of the embeddings.
      step: of each ascent; None for `2.5 radius / steps`.
      steps: how many.
      norm: `"linf"`, `"l2"` or `"l1"`.
      objective: what is climbed: `"labels"`, the cross-entropy of the targets;
        `"margins"`, `‖d(x̃) - d(x)‖²` of the margins `d_j = s_y - s_j`; `"divergence"`,
        `KL(q(x) ‖ q(x̃))`; `"captions"`, of a model with two towers, the contrastive
        loss of images and captions, `losses.ImageTextContrast` over a group of rows.
      start: `"center"`, or `"random"` in the ball, drawn anew for every row and step.
      of: `"images"`, or the `"embeddings"` of a Transformer's tokens.
      sizes: of the steps: `"fixed"`, or `"adaptive"`, as AutoAttack's (APGD:
        `models.views.adaptive`), which gives the best shift it met. It starts from the
        center there.
      group: of `"captions"`, the rows whose images and texts are beside each other;
        divides the rows of a microbatch.

    Raises:
      ValueError: a number is not in its range, a word none of these, the start is a
        place where the objective is flat, or there is a group where none is wanted.
    """

    radius: float
    step: float | None = None
    steps: int = 10
    norm: Literal["linf", "l2", "l1"] = "linf"
    objective: Literal["labels", "margins", "divergence", "captions"] = "labels"
    start: Literal["center", "random"] = "random"
    of: Literal["images", "embeddings"] = "images"
    sizes: Literal["fixed", "adaptive"] = "fixed"
    group: int | None = None

    def __post_init__(self):
        if not 0.0 <= self.radius < math.inf:
            raise ValueError(f"radius must be 0 or more, got {self.radius}")
        checks.positive(steps=self.steps, group=self.group)
        if self.step is not None:
            checks.positive(step=self.step)
        checks.one_of("norm", self.norm, BALLS)
        checks.one_of("objective", self.objective, (*OBJECTIVES, CAPTIONS))
        checks.one_of("start", self.start, ("center", "random"))
        checks.one_of("of", self.of, ("images", "embeddings"))
        checks.one_of("sizes", self.sizes, ("fixed", "adaptive"))
        if self.sizes == "adaptive" and self.step is not None:
            raise ValueError("step must be None where sizes are 'adaptive'")
        if (self.objective == CAPTIONS) != (self.group is not None):
            raise ValueError(
                f"group is of the objective 'captions', got {self.group} and "
                f"{self.objective!r}"
            )
        if self.start == "center" and self.objective not in ("labels", CAPTIONS):
            raise ValueError(
                f"start must be 'random' where the objective is {self.objective!r}: "
                "it is flat at the center"
            )

    @property
    def draws(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return self.start == "random" and self.radius > 0.0

    def __call__(self, model: Model, batch: Batch) -> Batch:
        if not self.radius:
            return batch
        self.check_batch(model, batch)
        ball, clean, texts = BALLS[self.norm], None, None
        if self.objective == CAPTIONS:
            of_batch = model.trunk(batch, capture=frozenset({"scaled_text"}))
            texts = of_batch.intermediates["scaled_text"]
        elif self.objective != "labels":
            clean = model.head(model.trunk(batch).hidden)
        shape = self._shape(model, batch)

        def of_rows(shift: jax.Array) -> jax.Array:
            view = self._shifted(batch, shift.reshape(shape))
            mask = batch["mask"]
            if texts is not None and self.group is not None:
                of_view = model.trunk(view, capture=frozenset({"image"}))
                image = of_view.intermediates["image"]
                values = captions.contrast(image, texts, mask, group=self.group)
                return jnp.where(mask, values, 0.0)
            logits = model.head(model.trunk(view).hidden)
            objective = OBJECTIVES[self.objective]
            targets = jnp.where(mask, batch["targets"], 0)
            values = objective(logits, logits if clean is None else clean, targets)
            values = jnp.where(mask, values, 0.0)
            return jnp.sum(values.reshape((len(shift), -1)), axis=-1)

        def of_shift(shift: jax.Array) -> tuple[jax.Array, jax.Array]:
            values = of_rows(shift)
            return jnp.sum(values), values

        def climb(_: int, shift: jax.Array) -> jax.Array:
            uphill = ball.uphill(jax.grad(of_shift, has_aux=True)(shift)[0])
            return allowed(ball.project(shift + size * uphill, self.radius))

        def allowed(shift: jax.Array) -> jax.Array:
            return self._allowed(batch, shift, shape)

        def values(shift: jax.Array) -> tuple[jax.Array, jax.Array]:
            slopes, values = jax.grad(of_shift, has_aux=True)(shift)
            return values, slopes

        size = 2.5 * self.radius / self.steps if self.step is None else self.step
        rows = shape[0], math.prod(shape[1:])
        shift = jnp.zeros(rows, jnp.float32)
        if self.start == "random":
            drawn = jax.vmap(lambda key: ball.draw(key, rows[1]))(row_keys(batch))
            shift = self._allowed(batch, self.radius * drawn, shape)
        if self.sizes == "adaptive":
            limits = {"norm": self.norm, "radius": self.radius, "steps": self.steps}
            shift = adaptive.climb(values, shift, allowed, **limits)
        else:
            shift = jax.lax.fori_loop(0, self.steps, climb, shift)
        return jax.lax.stop_gradient(self._shifted(batch, shift.reshape(shape)))

    def check_batch(self, model: Model, batch: Mapping[str, Any]) -> None:
        if self.of == "images":
            there = "images" in batch
        else:
            there = hasattr(model, "embed") and "tokens" in batch
        if self.radius and not there:
            what = "images" if self.of == "images" else "embeddings of tokens"
            raise ValueError(
                f"Ascent(of={self.of!r}) moves {what}, and {type(model).__name__} "
                f"reads {', '.join(sorted(model.reads))}"
            )

    def _shape(self, model: Any, batch: Batch) -> tuple[int, ...]:
        if self.of == "images":
            return batch["images"].shape
        return jax.eval_shape(model.embed, batch["tokens"], batch["positions"]).shape

    def _shifted(self, batch: Batch, shift: jax.Array) -> Batch:
        if self.of == "embeddings":
            return {**batch, EMBEDDING_SHIFT: shift}
        return {**batch, "images": pixels(batch["images"]) + shift}

    def _allowed(
        self, batch: Batch, shift: jax.Array, shape: tuple[int, ...]
    ) -> jax.Array:
        """Return the part of a shift that leaves pixels in [0, 1]; it is no longer."""
        if self.of == "embeddings":
            return shift
        images = pixels(batch["images"]).reshape(shift.shape)
        return jnp.clip(images + shift, 0.0, 1.0) - images
