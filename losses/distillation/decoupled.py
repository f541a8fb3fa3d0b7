"""Distillation that treats one entry of the vocabulary, the target, apart."""

import dataclasses
import difflib
from typing import ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.distillation.alignment import Entries, align, teacher_of
from losses.distillation.divergence import Divergence
from losses.distillation.kl import kl

Target = Literal["label", "teacher"]
"""Which entry is apart: `batch["targets"]`, or the teacher's most probable one."""


class Apart(NamedTuple):
    """Two distributions, each as its target and the others.

    log_p, log_q:               `[*b 2]`, of the target, and of all others together.
    log_p_others, log_q_others: `[*b n]`, renormalised over the others.
    others:                     bool `[*b n]`.
    """

    log_p: jax.Array
    log_q: jax.Array
    log_p_others: jax.Array
    log_q_others: jax.Array
    others: jax.Array

    @classmethod
    def of(cls, entries: Entries, chosen: jax.Array) -> "Apart":
        """`chosen` `[*b n]`: which entry is the target."""
        log_p, log_p_others = _split(entries.log_p, chosen)
        log_q, log_q_others = _split(entries.log_q, chosen)
        return cls(log_p, log_q, log_p_others, log_q_others, ~chosen)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Targeted(Divergence):
    """What compares teacher and student by an entry that it treats apart.

    target: `"label"`, as published; or `"teacher"`, which reads no labels and, its
        entry being the first of the best, any records with log-normalisers.

    Raises:
      ValueError: as a divergence; or the target is neither.
    """

    target: Target = "label"

    conventions: ClassVar[tuple[str, ...]] = ("tail_bucket", "renormalize_both")

    def __post_init__(self):
        super().__post_init__()
        if self.target not in get_args(Target):
            valid = ", ".join(map(repr, get_args(Target)))
            near = difflib.get_close_matches(str(self.target), get_args(Target), n=1)
            hint = f"; nearest: {near[0]!r}" if near else ""
            raise ValueError(
                f"target must be one of {valid}, got {self.target!r}{hint}"
            )

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those that the teacher's log-normaliser is wanted at."""
        return (self.temperature,)

    def check_records(self, stored: RecordSpec) -> None:
        if self.target == "label" and stored.mode == "top_k":
            raise ValueError(
                f"{type(self).__name__}(target='label') wants the teacher's "
                f"probability of every target, and the records hold its best entries; "
                f"target='teacher' takes the best one for the target"
            )
        for temperature in self.temperatures:
            at = dataclasses.replace(self, temperature=temperature)
            super(Targeted, at).check_records(stored)

    def entries(self, outputs: Outputs, temperature: float) -> Entries:
        """Both sides over the same entries.

        Raises:
          ValueError: the target is the label, and the teacher gives its best entries.
        """
        if self.target == "label" and teacher_of(outputs).indices is not None:
            raise ValueError(
                f"{type(self).__name__}(target='label') wants the teacher's whole "
                f"logits"
            )
        return align(outputs, temperature=temperature, sparse=self.sparse)

    def chosen(self, outputs: Outputs, entries: Entries) -> jax.Array:
        """Which of the entries is the target, bool `[*b n]`."""
        log_p = entries.log_p
        place = jax.lax.broadcasted_iota(jnp.int32, log_p.shape, log_p.ndim - 1)
        if self.target == "label":
            target = outputs.batch["targets"]
        else:
            stored = log_p[..., :-1] if entries.rest else log_p
            target = jnp.argmax(stored, axis=-1).astype(jnp.int32)
        return place == target[..., None]

    def apart(self, outputs: Outputs, temperature: float) -> Apart:
        """Both sides at a temperature, the target apart."""
        entries = self.entries(outputs, temperature)
        return Apart.of(entries, self.chosen(outputs, entries))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoupledKD(Targeted):
    """`α KL(b_p‖b_q) + β KL(p̂‖q̂)`, nats, y being the target.

    `b = (p_y, 1 - p_y)`; `p̂_i = p_i / (1 - p_y)` over the entries other than y. The
    first part (TCKD) says how hard a token is, the second (NCKD) what else it could be;
    in `KL(p‖q)` the second has the weight `1 - p_y`, next to nothing where the teacher
    is sure. α is `target_weight`, β is `non_target_weight`.

    Over stored entries the tail bucket is one of the others.

    Source: Zhao et al. 2022 (arXiv:2203.08679), section 3, with
    `scale_by_temperature_squared`; α = 1, β = 8, T = 4 on CIFAR-100, and β of 0.5 to 8
    elsewhere. `target="teacher"`: Zheng and Cheng 2025, GDKD (arXiv:2512.04625), split
    by the top logit.
    """

    target_weight: float = 1.0
    non_target_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        _check_weights(self, "target_weight", "non_target_weight")

    def __call__(self, outputs: Outputs) -> PerToken:
        both = self.apart(outputs, self.temperature)
        of_others = kl(both.log_p_others, both.log_q_others)
        value = self.target_weight * kl(both.log_p, both.log_q)
        return self._scaled(value + self.non_target_weight * of_others)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalizedKD(Targeted):
    """`-p_y log q_y + γ c Σ_{i≠y} -p̂_i log q̂_i`, nats, y being the target.

    The first part is at temperature 1 whatever T is. `p̂` and `q̂` are softmaxes at T
    over the entries other than y. `c` is T² if `scale_by_temperature_squared`, else 1.
    Both parts are cross-entropies, so that the least value is not 0: the teacher's
    entropies are in it.

    γ is `non_target_weight`. Over stored entries the tail bucket is one of the others,
    and log-normalisers are wanted at 1 and at T.

    Source: Yang et al. 2023 (arXiv:2303.13005), whose code has γT²; γ = 1.5,
    T = 1 on ImageNet. `target="teacher"` is the same with the split of GDKD
    (arXiv:2512.04625), not published for this loss.
    """

    non_target_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        _check_weights(self, "non_target_weight")

    @property
    def temperatures(self) -> tuple[float, ...]:
        return (1.0, self.temperature)

    def __call__(self, outputs: Outputs) -> PerToken:
        plain = self.apart(outputs, 1.0)
        of_target = -jnp.exp(plain.log_p[..., 0]) * plain.log_q[..., 0]
        hot = self.apart(outputs, self.temperature)
        crossed = jnp.exp(hot.log_p_others) * hot.log_q_others
        of_others = -jnp.sum(jnp.where(hot.others, crossed, 0.0), axis=-1)
        return of_target + self.non_target_weight * self._scaled(of_others)


def _split(log_p: jax.Array, chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of the target and of the rest; of the others, renormalised.

    The target has the same one on every side among the others, and compares as equal.
    """
    others = jnp.where(chosen, -jnp.inf, log_p)
    log_rest = jax.nn.logsumexp(others, axis=-1)
    log_target = jnp.sum(jnp.where(chosen, log_p, 0.0), axis=-1)
    renormalised = jnp.where(chosen, 0.0, log_p) - log_rest[..., None]
    return (
        jnp.stack([log_target, log_rest], axis=-1),
        jnp.where(chosen, 0.0, renormalised),
    )


def _check_weights(loss: Targeted, *names: str) -> None:
    for name in names:
        weight = getattr(loss, name)
        if not 0.0 <= weight < float("inf"):
            raise ValueError(f"{name} must be at least 0, got {weight}")
