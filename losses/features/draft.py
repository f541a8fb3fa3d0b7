"""Losses and metrics of a draft: further tokens from the same hidden states."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.core.checks import check_choice, check_inner
from losses.core.loss import Loss
from losses.core.masks import target_mask
from losses.core.of_loss import OfLoss
from losses.core.outputs import (
    Batch,
    IncompatibleLoss,
    Outputs,
    PerToken,
    RecordSpec,
    TeacherOutputs,
    head_path,
)
from losses.functional.agreement import acceptance, accepted_length

_TEACHER = "teacher/logits"
_AGAINST = ("student", "teacher")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draft(OfLoss):
    """`1/K Σ_j decay^(j-1) loss(d_j)` of the draft of step j (`models.Drafted`).

    `d_j` are the logits that the student's own head gives of `draft/j`, what a draft
    expects of the target from hidden states that end j tokens before it. A step counts
    0 at the first j targets of a text, which it does not reach: with a cross-entropy it
    is the sum over the others, divided by the count of all, as DeepSeek-V3's.

    With `losses.CrossEntropy()` it is multi-token prediction, with `losses.ForwardKL()`
    the cross-entropy with the student's own distribution, less its entropy.

    Attributes:
      loss: reads `logits` as of any other term; no means over the batch.
      steps: K.
      decay: of the weight of a step.
      against: whose distribution is the teacher's of `loss`: the student's own, without
        a gradient, or the experiment's teacher's.
      head: whether the student's head is trained by it too.

    Source: DeepSeek-V3 2024 (arXiv:2412.19437), eq. 24 and 25, `decay=1`; EAGLE-3 (Li
    et al. 2025, arXiv:2503.01840), section 3.2, whose released code has `decay=0.8`;
    Gloeckle et al. 2024 (arXiv:2404.19737), eq. 2, a sum over the steps.

    Raises:
      ValueError: a number is out of its range, a word none of these, or `loss` reads no
        logits or wants means.
    """

    loss: Loss
    steps: int = 1
    decay: float = 1.0
    against: Literal["student", "teacher"] = "student"
    head: Literal["trained", "constant"] = "trained"
    tiled = False

    def __post_init__(self):
        check_inner(self, self.loss)
        _check(self.steps, self.against)
        check_choice("head", self.head, ("trained", "constant"))
        if not 0.0 < self.decay <= 1.0:
            raise ValueError(f"decay must be in (0, 1], got {self.decay}")

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        read = self.loss.needs - {"logits"}
        if self._reads_student:
            read = read - {_TEACHER} | {"logits"}
        return read | {self._path(j) for j in range(1, self.steps + 1)}

    @property
    def _reads_student(self) -> bool:
        return self.against == "student" and _TEACHER in self.loss.needs

    def _path(self, step: int) -> str:
        return _path(step, constant=self.head == "constant")

    def check_records(self, stored: RecordSpec) -> None:
        if not self._reads_student:
            self.loss.check_records(stored)

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher = outputs.teacher
        if self._reads_student:
            teacher = TeacherOutputs(logits=jax.lax.stop_gradient(outputs.logits))
        positions = outputs.batch["positions"]
        total = jnp.zeros(positions.shape, jnp.float32)
        for j in range(1, self.steps + 1):
            inside = dataclasses.replace(
                outputs,
                logits=outputs.intermediates[self._path(j)],
                teacher=teacher,
            )
            values = self.loss(inside)
            total += self.decay ** (j - 1) * jnp.where(positions >= j, values, 0.0)
        return total / self.steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Acceptance(Loss):
    """`Σ_v min(d_j(v), p(v))`, in [0, 1]: how often step j of a draft is accepted.

    d_j is its distribution and p that of its target, both of the data's own tokens.
    It is 1 less the total variation between the two. As a metric it counts the targets
    that step j reaches: `Evaluation(metrics=[losses.Acceptance(step=1), ...])`.

    Attributes:
      step: j, from 1.
      against: whose distribution p is: the student's own, or the teacher's.

    Raises:
      ValueError: a number is out of its range, or a word none of these.

    Source: Leviathan et al. 2022 (arXiv:2211.17192), corollary 3.6.
    """

    step: int = 1
    against: Literal["student", "teacher"] = "student"
    unit = "1"
    tiled = False

    def __post_init__(self):
        _check(self.step, self.against, "step")

    @property
    def name(self) -> str:
        """As a metric."""
        return f"acceptance_{self.step}"

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        return frozenset({_of(self.against), _path(self.step)})

    @property
    def default_mask(self):  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        return DraftedMask(self.step)

    def __call__(self, outputs: Outputs) -> PerToken:
        draft = outputs.intermediates[_path(self.step)]
        return acceptance(draft, _target(outputs, self.against))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AcceptedLength(Loss):
    """`Σ_k Π_(j<=k) a_j`: tokens of a draft of K steps that are accepted, on average.

    a_j is the `Acceptance` of step j at the j-th of K targets one after another, which
    the data's own tokens lead to; the token that the target adds is not counted. A
    value stands at the last of the K; as a metric it counts these.

    Attributes:
      steps: K.
      against: as of `Acceptance`.

    Raises:
      ValueError: a number is out of its range, or a word none of these.

    Source: Leviathan et al. 2022 (arXiv:2211.17192), section 3.1, whose eq. 1 it is,
    less 1, where all a_j are one number.
    """

    steps: int = 1
    against: Literal["student", "teacher"] = "student"
    scope = "sequence"
    unit = "tokens"
    tiled = False

    def __post_init__(self):
        _check(self.steps, self.against)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        paths = {_path(j) for j in range(1, self.steps + 1)}
        return frozenset({_of(self.against), *paths})

    @property
    def default_mask(self):  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        return DraftedMask(self.steps, chain=self.steps)

    @property
    def reads(self):  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        return target_mask

    def __call__(self, outputs: Outputs) -> PerToken:
        target = _target(outputs, self.against)
        steps = [
            acceptance(outputs.intermediates[_path(j)], target)
            for j in range(1, self.steps + 1)
        ]
        return accepted_length(jnp.stack(steps))


@dataclasses.dataclass(frozen=True)
class DraftedMask:
    """A mask of the targets that step `steps` of a draft reaches.

    Attributes:
      steps: j: those with j tokens of their text before them.
      chain: targets, one after another, that must count; the mask holds the last.
    """

    steps: int
    chain: int = 1

    def __call__(self, batch: Batch) -> Bool[Array, "b t"]:
        """Return which tokens of a batch count."""
        targets = target_mask(batch)
        reached = batch["positions"] >= self.steps
        for back in range(self.chain):
            reached &= jnp.roll(targets, back, axis=-1)
        return reached


def _path(step: int, *, constant: bool = False) -> str:
    return head_path(f"draft/{step}", constant=constant)


def _of(against: str) -> str:
    return "logits" if against == "student" else _TEACHER


def _target(outputs: Outputs, against: str) -> Float[Array, "*b v"]:
    """Return the logits that a draft is held to, without a gradient.

    Raises:
      IncompatibleLoss: they are a teacher's that has only some of them.
    """
    if against == "student":
        return jax.lax.stop_gradient(outputs.logits)
    teacher = outputs.teacher
    if teacher is None or teacher.logits is None or teacher.indices is not None:
        raise IncompatibleLoss("acceptance is of a teacher's whole distribution")
    return teacher.logits


def _check(steps: int, against: str, name: str = "steps") -> None:
    if steps < 1:
        raise ValueError(f"{name} must be at least 1, got {steps}")
    check_choice("against", against, _AGAINST)
