"""The step held within the radius in which the cross-entropy's series converges."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from runner.step_rules.base import StepRule, StepRuleContext

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvergenceRadius(StepRule):
    """The limit of a step by the radius in which the cross-entropy's series converges.

        p ← p · min(1, largest / r),  r = max_tokens (max_c a_c - min_c a_c) / πT

    `a = J(θ) p` are the slopes of a token's logits along the update p. Along it, the
    cross-entropy `log Σ_c exp(z_c + τ a_c) - z_y - τ a_y` is a power series of τ that
    converges up to the nearest complex zero of its sum, which is at `|τ| = 1/r` or
    farther. So at `r < 1` the step stays where the series, and any model of the loss
    by its derivatives, holds. `r` is `‖p‖ / ρ` with the paper's radius `ρ = πT / Δ`.

    The numbers are `ratio`, r before the rule, and `scale`, what p is multiplied by.

    Attributes:
      largest: of the ratio r after the rule.
      exact: Always scale to `largest`, so that it sets the step and the learning rate
        only the direction: the paper's controller. Otherwise steps only get shorter.
      temperature: T, of the softmax.
      rows: Of the batch to look at, evenly spread; None for all. The slopes cost two
        forward passes of these.

    Source: Ghosts of softmax, 2026 (arXiv:2603.13552), its conservative radius.

    Raises:
      ValueError: A number is not positive.
    """

    largest: float = 1.0
    exact: bool = False
    temperature: float = 1.0
    rows: int | None = None

    numbers: ClassVar[tuple[str, ...]] = ("ratio", "scale")

    def __post_init__(self):
        for field in ("largest", "temperature", "rows"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise ValueError(f"{field} must be positive, got {value}")

    def __call__(
        self, updates: Tree, context: StepRuleContext
    ) -> tuple[Tree, Mapping[str, Float[Array, ""]]]:
        spread = context.slopes.largest(updates["student"], _spread, rows=self.rows)
        # -inf where no token counts.
        ratio = jnp.maximum(spread, 0.0) / (math.pi * self.temperature)
        scale = self.largest / jnp.maximum(ratio, jnp.finfo(jnp.float32).tiny)
        moves = ratio > 0
        if self.exact:
            scale = jnp.where(moves, scale, 1.0)
        else:
            scale = jnp.where(moves, jnp.minimum(scale, 1.0), 1.0)
        scaled = jax.tree.map(lambda x: x * scale, updates)
        return scaled, {"ratio": ratio, "scale": scale}


def _spread(slopes: Float[Array, "*b v"]) -> Float[Array, "*b"]:
    return jnp.max(slopes, axis=-1) - jnp.min(slopes, axis=-1)
