"""Weights of tokens by what the teacher says of them, or by where they stand."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.checks import check_finite
from losses.core.loss import TokenWeight
from losses.core.outputs import (
    TEACHER,
    IncompatibleLoss,
    NeedsFullLogits,
    Outputs,
    PerToken,
    TeacherOutputs,
    path_of_teacher,
)
from losses.core.tiles import Tile
from losses.core.vocab_sums import TiledOutputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfidence(TokenWeight):
    """`max_v p_v ^ power`, p being the teacher's distribution at temperature 1.

    Where the teacher is unsure, its distribution counts less; a negative power has it
    count more. Over stored entries the largest is among them; draws have none.

    Raises:
      ValueError: power is not finite; from a call, the teacher is stored as draws.
    """

    power: float = 1.0
    needs = frozenset({"teacher/logits"})

    def __post_init__(self):
        check_finite(self)

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher = _teacher(outputs)
        if teacher.logits is None:
            raise ValueError("TeacherConfidence needs entries, and records hold draws")
        top = jnp.max(teacher.logits, axis=-1) - teacher.log_normalizer()
        return jnp.exp(self.power * top)

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        if outputs.teacher_width is not None:
            raise NeedsFullLogits
        return self(outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherEntropy(TokenWeight):
    """`exp(-H / scale)`, `H = -Σ_v p_v log p_v` in nats, p at temperature 1.

    1 where the teacher is certain; a negative `scale` weights its doubt up instead.
    Over stored entries, what is left of the mass counts as one entry, so that H is a
    lower bound; of draws, the entropy is stored.

    Raises:
      ValueError: scale is 0 or not finite.
    """

    scale: float = 1.0
    needs = frozenset({"teacher/logits"})

    def __post_init__(self):
        check_finite(self)
        if not self.scale:
            raise ValueError("scale must not be 0")

    def __call__(self, outputs: Outputs) -> PerToken:
        return jnp.exp(-teacher_entropy(_teacher(outputs)) / self.scale)

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        if outputs.teacher_width is None:
            return self(outputs)
        return jnp.exp(-_entropy_of_tiles(outputs) / self.scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherCorrect(TokenWeight):
    """`base`, and `bonus` more where the teacher's most probable entry is the target.

    Source: the focal distillation of arXiv:2011.09161, base 1 and bonus 5: of a model
    that an update replaces, it keeps what that had right.

    Attributes:
      base: everywhere.
      bonus: where it is right.
      teacher: the name of one of a `runner.NamedTeachers`; None for the only one.

    Raises:
      ValueError: a number is not finite; from a call, the teacher is stored as draws.
    """

    base: float = 1.0
    bonus: float = 5.0
    teacher: str | None = None

    def __post_init__(self):
        check_finite(self)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return frozenset({self._path})

    @property
    def _path(self) -> str:
        path = f"{TEACHER}logits"
        return path if self.teacher is None else path_of_teacher(self.teacher, path)

    def __call__(self, outputs: Outputs) -> PerToken:
        if self.teacher is None:
            teacher = _teacher(outputs)
        else:
            teacher = TeacherOutputs(logits=outputs.intermediate(self._path))
        if teacher.logits is None:
            raise ValueError("TeacherCorrect needs entries, and records hold draws")
        best = jnp.argmax(teacher.logits, axis=-1).astype(jnp.int32)
        if teacher.indices is not None:
            best = teacher.indices[..., 0]
        correct = (best == outputs.batch["targets"]).astype(jnp.float32)
        return self.base + self.bonus * correct

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        if outputs.teacher_width is not None:
            raise NeedsFullLogits
        return self(outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherUnsure(TokenWeight):
    """1 where the H of `TeacherEntropy` is above `entropy` nats, else 0.

    `ForwardKL` with it beside a `ReverseKL` is entropy-aware distillation: the mode of
    a sure teacher, the whole distribution of an unsure one.

    Source: as the survey arXiv:2604.00626 prints it, with no value of the threshold.

    Raises:
      ValueError: entropy is negative or not finite.
    """

    entropy: float = 1.0
    needs = frozenset({"teacher/logits"})

    def __post_init__(self):
        check_finite(self)
        if self.entropy < 0.0:
            raise ValueError(f"entropy must not be negative, got {self.entropy}")

    def __call__(self, outputs: Outputs) -> PerToken:
        return _above(teacher_entropy(_teacher(outputs)), self.entropy)

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        if outputs.teacher_width is None:
            return self(outputs)
        return _above(_entropy_of_tiles(outputs), self.entropy)

    def explain_zero(self) -> str:
        return f"the teacher's entropy is at most {self.entropy} nats at each of them"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position(TokenWeight):
    """`inside` at positions `first <= t < last` of a document, else `outside`.

    last: None for no end.

    Raises:
      ValueError: the range holds no position, or a weight is not finite.
    """

    first: int = 0
    last: int | None = None
    inside: float = 1.0
    outside: float = 0.0

    def __post_init__(self):
        check_finite(self)
        if self.first < 0 or (self.last is not None and self.last <= self.first):
            raise ValueError(
                f"first <= t < last must hold a position, got {self.first} and "
                f"{self.last}"
            )

    def __call__(self, outputs: Outputs) -> PerToken:
        at: Any = outputs.batch["positions"]
        within = at >= self.first
        if self.last is not None:
            within &= at < self.last
        return jnp.where(within, jnp.float32(self.inside), jnp.float32(self.outside))


def _above(entropy: PerToken, threshold: float) -> PerToken:
    return (entropy > threshold).astype(jnp.float32)


def _entropy_of_tiles(outputs: TiledOutputs) -> PerToken:
    """Return H of `TeacherEntropy`, nats, `[*b]`, of a teacher by tiles."""
    teacher, _ = outputs.both(1.0)

    def score(tile: Tile) -> Float[Array, "*b n"]:
        x = teacher.scores(tile)
        return jnp.where(x == -jnp.inf, 0.0, x)

    return outputs.normalizer_of(teacher) - outputs.expected(teacher, score)


def _teacher(outputs: Outputs) -> TeacherOutputs:
    assert outputs.teacher is not None  # "teacher/logits" is needed
    return outputs.teacher


def teacher_entropy(teacher: TeacherOutputs) -> PerToken:
    """H of `TeacherEntropy`, nats, `[*b]`.

    Raises:
      IncompatibleLoss: of draws, it was not stored at temperature 1.
    """
    if teacher.logits is None:
        if 1.0 not in teacher.entropies:
            stored = ", ".join(map(str, sorted(teacher.entropies))) or "none"
            raise IncompatibleLoss(
                "TeacherEntropy wants the teacher's entropy at temperature 1.0, which "
                f"is not stored; stored: {stored}"
            )
        return teacher.entropies[1.0]
    log_p = teacher.logits - teacher.log_normalizer()[..., None]
    p = jnp.exp(log_p)
    entropy = -jnp.sum(p * jnp.where(log_p == -jnp.inf, 0.0, log_p), axis=-1)
    if teacher.indices is None:
        return entropy
    rest = jnp.maximum(1.0 - jnp.sum(p, axis=-1), 0.0)
    return entropy - rest * jnp.log(jnp.where(rest > 0.0, rest, 1.0))
