"""Decoupled and normalized distillation: the target entry apart from the others."""

import abc
import dataclasses
import difflib
from typing import ClassVar, Literal, NoReturn, get_args

import jax.numpy as jnp
from jaxtyping import Array, Bool

from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.distillation.alignment import Entries, align, teacher_of
from losses.distillation.divergence import Divergence
from losses.functional import log_probs_targeted
from losses.functional.vocabulary import is_target

Target = Literal["label", "teacher"]
"""The entry set apart: `batch["targets"]`, or the teacher's most probable one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Targeted(Divergence, abstract=True):
    """Base of losses that treat one entry, the target, apart.

    Attributes:
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

    @abc.abstractmethod
    def __call__(self, outputs: Outputs) -> PerToken:
        """Return values `[*b]`, float32."""

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures at which the teacher's log-normaliser is read."""
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
        """Return both sides over the same entries; NaN where no entry is the label.

        Raises:
          ValueError: the target is the label, and the teacher gives its best entries.
        """
        if self.target == "label" and teacher_of(outputs).indices is not None:
            raise ValueError(
                f"{type(self).__name__}(target='label') wants the teacher's whole "
                f"logits"
            )
        entries = align(outputs, temperature=temperature, sparse=self.sparse)
        if self.target == "teacher":
            return entries
        outside = outputs.targets_outside(entries.log_p.shape[-1])[..., None]
        return entries._replace(log_p=jnp.where(outside, jnp.nan, entries.log_p))

    def is_target(self, outputs: Outputs, entries: Entries) -> Bool[Array, "*b n"]:
        """Return whether each entry is the target, bool `[*b n]`."""
        log_p = entries.log_p
        if self.target == "label":
            return is_target(log_p, outputs.batch["targets"])
        stored = log_p[..., :-1] if entries.rest else log_p
        return is_target(log_p, jnp.argmax(stored, axis=-1).astype(jnp.int32))

    def divergence(self, entries: Entries) -> NoReturn:
        """Refuse: entries alone do not say which one is the target.

        Raises:
          TypeError: always; `__call__` is defined in its place.
        """
        raise TypeError(f"{type(self).__name__} has no value without its target")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoupledKD(Targeted):
    """`α KL(b_p‖b_q) + β KL(p̂‖q̂)`, nats, y being the target.

    `b = (p_y, 1 - p_y)`; `p̂_i = p_i / (1 - p_y)` over the entries other than y. The
    first part (TCKD) is about the difficulty of a token, the second (NCKD) about its
    alternatives; in `KL(p‖q)` the second has the weight `1 - p_y`, next to nothing
    where the teacher is sure.

    Over stored entries the tail bucket is one of the others.

    Source: Zhao et al. 2022 (arXiv:2203.08679), section 3, with
    `scale_by_temperature_squared`; α = 1, β = 8, T = 4 on CIFAR-100, and β of 0.5 to 8
    elsewhere. `target="teacher"`: Zheng and Cheng 2025, GDKD (arXiv:2512.04625), split
    by the top logit.

    Attributes:
      target_weight: α.
      non_target_weight: β.

    Raises:
      ValueError: as `Targeted`, or a weight is below 0.
    """

    target_weight: float = 1.0
    non_target_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        _check_weights(self, "target_weight", "non_target_weight")

    def __call__(self, outputs: Outputs) -> PerToken:
        entries = self.entries(outputs, self.temperature)
        value = log_probs_targeted.decoupled_kd(
            entries.log_p,
            entries.log_q,
            self.is_target(outputs, entries),
            target_weight=self.target_weight,
            non_target_weight=self.non_target_weight,
        )
        return self._scaled(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalizedKD(Targeted):
    """`-p_y log q_y + γ c Σ_{i≠y} -p̂_i log q̂_i`, nats, y being the target.

    The first part is at temperature 1 whatever T is. `p̂` and `q̂` are softmaxes at T
    over the entries other than y. `c` is T² if `scale_by_temperature_squared`, else 1.
    Both parts are cross-entropies, so that the least value is not 0: the teacher's
    entropies are in it. Nor is it at q = p: the first part alone is least at q_y = 1.

    Over stored entries the tail bucket is one of the others,
    and log-normalisers are wanted at 1 and at T.

    Source: Yang et al. 2023 (arXiv:2303.13005), whose code has γT²; γ = 1.5,
    T = 1 on ImageNet. `target="teacher"` is the same with the split of GDKD
    (arXiv:2512.04625), not published for this loss.

    Attributes:
      non_target_weight: γ.

    Raises:
      ValueError: as `Targeted`, or the weight is below 0.
    """

    non_target_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        _check_weights(self, "non_target_weight")

    @property
    def temperatures(self) -> tuple[float, ...]:
        return (1.0, self.temperature)

    def __call__(self, outputs: Outputs) -> PerToken:
        entries = self.entries(outputs, 1.0)
        of_target = log_probs_targeted.target_cross_entropy(
            entries.log_p, entries.log_q, self.is_target(outputs, entries)
        )
        entries = self.entries(outputs, self.temperature)
        of_others = log_probs_targeted.non_target_cross_entropy(
            entries.log_p, entries.log_q, self.is_target(outputs, entries)
        )
        return of_target + self.non_target_weight * self._scaled(of_others)


def _check_weights(loss: Targeted, *names: str) -> None:
    for name in names:
        weight = getattr(loss, name)
        if not 0.0 <= weight < float("inf"):
            raise ValueError(f"{name} must be at least 0, got {weight}")
