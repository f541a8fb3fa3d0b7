"""Combinations of teachers whose coefficient is another at each token."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.functional.log_probs import kl
from models.decoding.contrast import Contrast
from runner.teachers.base import Teacher
from runner.teachers.combined import IMPOSSIBLE, Combine, Combined

Logits = Float[Array, "*b v"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicTeacher(Combined):
    """`base + a_t (expert - antiexpert)` on logits, a_t chosen at each token.

    With `experts` there are several of one antiexpert, and one acts at a token: it and
    a_t are then those for which the sum of what is below, over all of them, is least.
    With P the base, P_a the combination, E the expert and A the antiexpert, a_t is that
    of `points` equal steps from 0 to `most` which makes

        (KL(P_a‖P) - KL(E‖A))² + (KL(P‖P_a) - KL(A‖E))²

    least: the base moves as far as training moved the expert. Both divergences rise
    with a, so the least is near where they match; the smallest such a where several do,
    0 where the expert is the antiexpert. Where base and antiexpert are one, a is 1 and
    the combination the expert. A constant in any member's logits changes nothing.

    Source: Fan et al. 2024, dynamic logits fusion (arXiv:2406.15480);
    `FusedTeacher(scale=1.0)` is its static form. It costs `points` softmaxes a token
    and expert.

    Attributes:
      base: the teacher to move.
      expert: what training made of the antiexpert.
      antiexpert: what it was before.
      most: the largest a_t.
      points: steps of the search.
      experts: further experts, of the same antiexpert.

    Raises:
      ValueError: `most` is not positive and finite, or `points` below 1.
    """

    base: Teacher
    expert: Teacher
    antiexpert: Teacher
    most: float = 2.0
    points: int = 20
    experts: Sequence[Teacher] = ()

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
            **{f"experts[{i}]": x for i, x in enumerate(self.experts)},
        }

    def combine(self, logits: Sequence[jax.Array]) -> jax.Array:
        base, expert, antiexpert, *others = (jnp.maximum(x, IMPOSSIBLE) for x in logits)
        experts = [expert, *others]
        log_base, log_anti = jax.nn.log_softmax(base), jax.nn.log_softmax(antiexpert)
        moved = [
            (kl(x, log_anti), kl(log_anti, x)) for x in map(jax.nn.log_softmax, experts)
        ]

        def mismatch(step: Logits) -> Float[Array, "*b"]:
            log_fused = jax.nn.log_softmax(base + step)
            forward, backward = kl(log_fused, log_base), kl(log_base, log_fused)
            gaps = [(forward - there, backward - back) for there, back in moved]
            squares = [jnp.square(x) + jnp.square(y) for x, y in gaps]
            return sum(squares[1:], squares[0])

        # Where none is closer than no step, there is none.
        cost = mismatch(jnp.zeros_like(base))
        best = jnp.zeros_like(base)
        for x in experts:
            difference = x - antiexpert

            def better(i: jax.Array, lowest: tuple, difference: Logits = difference):
                a = self.most * i.astype(jnp.float32) / self.points
                cost = mismatch(a * difference)
                closer = cost < lowest[0]
                return (
                    jnp.where(closer, cost, lowest[0]),
                    jnp.where(closer, a, lowest[1]),
                )

            start = cost, jnp.full_like(cost, -1.0)
            cost, a = jax.lax.fori_loop(1, self.points + 1, better, start)
            step = a[..., None] * difference
            best = jnp.where(a[..., None] < 0.0, best, step)
        return logits[0] + best

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnlearnedTeacher(Combined):
    """`base + scale · log a` at the likely tokens, a the probabilities of `assistant`.

    What `runner-sample --assistant` draws from, as a teacher: to distil it into one
    model, to record it, or to evaluate beside it.

    Source: as of `models.decoding.contrast.Contrast`, whose filter it has.

    Attributes:
      base: the teacher that is to forget.
      assistant: one that knows what is to be forgotten, and nothing else.
      scale: as there.
      share: as there.

    Raises:
      ValueError: as there.
    """

    base: Teacher
    assistant: Teacher
    scale: float = -0.8
    share: float = 0.01

    def __post_init__(self):
        Contrast(scale=self.scale, share=self.share)

    @property
    def _contrast(self) -> Contrast:
        return Contrast(scale=self.scale, share=self.share)

    def members(self) -> Mapping[str, Teacher]:
        return {"base": self.base, "assistant": self.assistant}

    def combine(self, logits: Sequence[jax.Array]) -> jax.Array:
        base, assistant = logits
        return self._contrast(base, assistant)

    @property
    def entrywise(self) -> bool:
        return False

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "unlearned", "scale": self.scale, "share": self.share}
