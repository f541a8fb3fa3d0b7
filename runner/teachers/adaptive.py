"""Combinations of teachers whose coefficient is another at each token."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.functional.log_probs import kl
from runner.teachers.base import Teacher
from runner.teachers.combined import IMPOSSIBLE, Combine, Combined

Logits = Float[Array, "*b v"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicTeacher(Combined):
    """`base + a_t (expert - antiexpert)` on logits, a_t chosen at each token.

    With P the base, P_a the combination, E the expert and A the antiexpert, a_t is that
    of `points` equal steps from 0 to `most` which makes

        (KL(P_a‖P) - KL(E‖A))² + (KL(P‖P_a) - KL(A‖E))²

    least: the base moves as far as training moved the expert. Both divergences rise
    with a, so the least is near where they match; the smallest such a where several do,
    0 where the expert is the antiexpert. Where base and antiexpert are one, a is 1 and
    the combination the expert. A constant in any member's logits changes nothing.

    Source: Fan et al. 2024, dynamic logits fusion (arXiv:2406.15480), for one expert;
    `FusedTeacher(scale=1.0)` is its static form. It costs `points` softmaxes a token.

    Raises:
      ValueError: `most` is not positive and finite, or `points` below 1.
    """

    base: Teacher
    expert: Teacher
    antiexpert: Teacher
    most: float = 2.0
    points: int = 20

    def __post_init__(self):
        if not 0.0 < self.most < math.inf:
            raise ValueError(f"most must be positive, got {self.most}")
        if self.points < 1:
            raise ValueError(f"points must be at least 1, got {self.points}")

    def members(self) -> Mapping[str, Teacher]:
        return {
            "base": self.base,
            "expert": self.expert,
            "antiexpert": self.antiexpert,
        }

    def combine(self, logits: Sequence[jax.Array]) -> jax.Array:
        base, expert, antiexpert = (jnp.maximum(x, IMPOSSIBLE) for x in logits)
        difference = expert - antiexpert
        log_base, log_expert, log_anti = map(
            jax.nn.log_softmax, (base, expert, antiexpert)
        )
        forward, backward = kl(log_expert, log_anti), kl(log_anti, log_expert)

        def mismatch(a: Float[Array, ""]) -> Float[Array, "*b"]:
            log_fused = jax.nn.log_softmax(base + a * difference)
            gaps = kl(log_fused, log_base) - forward, kl(log_base, log_fused) - backward
            return jnp.square(gaps[0]) + jnp.square(gaps[1])

        def better(i: jax.Array, best: tuple) -> tuple:
            a = self.most * i.astype(jnp.float32) / self.points
            cost = mismatch(a)
            closer = cost < best[0]
            return jnp.where(closer, cost, best[0]), jnp.where(closer, a, best[1])

        start = mismatch(jnp.float32(0.0)), jnp.zeros(base.shape[:-1], jnp.float32)
        _, a = jax.lax.fori_loop(1, self.points + 1, better, start)
        return logits[0] + a[..., None] * difference

    @property
    def entrywise(self) -> bool:
        return False

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "dynamic", "most": self.most, "points": self.points}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastedTeacher(Combined):
    """`expert + a_t (expert - reverse)` on logits, with `a_t = r TV_t + ε`.

    `TV_t = 1/2 Σ_v |p_v - q_v|` of the two at the token: where they disagree the
    combination goes further. `reverse` is trained on the same pairs, swapped.

    Source: Zhang et al. 2025, AlignDistil (arXiv:2503.02832), r = 10 or 15 and
    ε = 1e-3; its code leaves the 1/2 out, so that r is half as large there. Its weights
    of tokens, `β_0 / a_t`, are `losses.TeacherContrast`, which reads a_t of models. The
    form of its theorem is
    `FusedTeacher(base=ref, expert=dpo, antiexpert=ref, scale=beta_0 / beta)`.

    Attributes:
      expert: the teacher to exaggerate.
      reverse: the teacher to go away from.
      strength: r.
      least: ε.

    Raises:
      ValueError: a number is negative or not finite.
    """

    expert: Teacher
    reverse: Teacher
    strength: float = 10.0
    least: float = 1e-3

    def __post_init__(self):
        for name in ("strength", "least"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be at least 0, got {getattr(self, name)}"
                )

    def members(self) -> Mapping[str, Teacher]:
        return {"expert": self.expert, "reverse": self.reverse}

    def combine(self, logits: Sequence[jax.Array]) -> jax.Array:
        expert, reverse = (jnp.maximum(x, IMPOSSIBLE) for x in logits)
        return logits[0] + self._coefficient(logits)[..., None] * (expert - reverse)

    @property
    def beside(self) -> Mapping[str, Combine]:
        return {"contrast": self._coefficient}

    def _coefficient(self, logits: Sequence[jax.Array]) -> Float[Array, "*b"]:
        """Return a_t."""
        p, q = map(jax.nn.softmax, logits)
        return self.strength * 0.5 * jnp.sum(jnp.abs(p - q), axis=-1) + self.least

    @property
    def entrywise(self) -> bool:
        return False

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "contrasted", "strength": self.strength, "least": self.least}
