"""A draft head: guesses what the student will say from its hidden states."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from losses.core.affine import Affine
from losses.core.checks import check_choice, check_inner
from losses.core.loss import Loss
from losses.core.of_loss import OfLoss
from losses.core.outputs import (
    IncompatibleLoss,
    Outputs,
    PerToken,
    RecordSpec,
    TeacherOutputs,
)
from losses.functional.features import affine, draft_step, root_mean_square

_TEACHER = "teacher/logits"


class Draft(OfLoss, nnx.Module):
    """`1/K Σ_j loss(d_j)` of the logits of a draft of the targets, j tokens ahead.

    For the target y_t it reads the student's hidden states of the token before, fused
    into one, and that token: `u_0 = F [h; h'; h'']`, and with n an RMS norm,

        u_j(t) = z + W' gelu(W [n(z); E y_{t-1}] + b) + b',  z = u_{j-1}(t - 1)
        d_j(t) = O n(u_j(t)) + c

    so that d_1 sees the student's states one token ago, and d_j its own of j - 1 tokens
    between. A text's first target, and one after a token that does not count, is
    drafted from zeros. `LossTerm(name="draft", loss=functools.partial(losses.Draft,
    loss=losses.ForwardKL(), of=("hidden/0", "hidden/2", "trunk"), width=192, dim=192,
    num_outputs=4096))` trains it beside a student, or on a frozen one
    (`Experiment(trainable=...)`).

    A sampled token of the draft is accepted with probability `Σ_v min(d(v), q(v))`
    (Leviathan et al. 2022, arXiv:2211.17192, corollary 3.6): with
    `loss=losses.TotalVariation()` the value is 1 minus that, of `against="student"`.

    Args:
      loss: reads `logits` as of any other term; no means over the batch.
      of: paths of the hidden states, low to high, `[*b width]` each.
      width: of each.
      dim: of u, and of the layer inside.
      num_outputs: V.
      steps: K.
      against: whose distribution is the teacher's of `loss`: the student's own, without
        a gradient, or the experiment's teacher's.
      states: whether the student's hidden states are constants, as of a drafter, or
        trained through it, as by multi-token prediction.
      dtype: that products are multiplied in; they are accumulated in float32.
      rngs: of the initial values.

    Source: Li et al. 2025, EAGLE-3 (arXiv:2503.01840), section 3: fused states, no loss
    on features, and its training-time test, which are the K steps; a decoder layer
    there is one hidden layer here, and attends to nothing. Multi-token prediction is
    `loss=losses.CrossEntropy(), states="trained"`, as of DeepSeek-V3
    (arXiv:2412.19437), eq. 21 to 25, its embedding and output layer the draft's own.

    Raises:
      ValueError: a size is not positive, a word none of these, there is no path, or
        `loss` reads no logits or wants means.
    """

    tiled = False

    def __init__(
        self,
        *,
        loss: Loss,
        of: Sequence[str] = ("trunk",),
        width: int,
        dim: int,
        num_outputs: int,
        steps: int = 1,
        against: Literal["student", "teacher"] = "student",
        states: Literal["constant", "trained"] = "constant",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_inner(self, loss)
        sizes = {"width": width, "dim": dim, "num_outputs": num_outputs, "steps": steps}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be positive, got {size}")
        check_choice("against", against, ("student", "teacher"))
        check_choice("states", states, ("constant", "trained"))
        if not of:
            raise ValueError("of must name at least one hidden state")
        self.loss, self.of, self.steps, self.dtype = loss, tuple(of), steps, dtype
        self.width, self.against, self.states = width, against, states
        self.fuse = Affine(width * len(of), dim, axes=("embed", None), rngs=rngs)
        start = jax.nn.initializers.normal(0.02)
        table = start(rngs.params(), (num_outputs, dim), jnp.float32)
        self.embedding = nnx.Param(table, axes=("vocab", None))
        self.first = Affine(2 * dim, dim, axes=(None, None), rngs=rngs)
        self.second = Affine(dim, dim, axes=(None, None), rngs=rngs)
        self.last = Affine(dim, num_outputs, axes=(None, "vocab"), rngs=rngs)

    @property
    def scope(self) -> Literal["sequence"]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        return "sequence"

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        read = self.loss.needs - {"logits"}
        if self._reads_student:
            read = read - {_TEACHER} | {"logits"}
        return read | set(self.of)

    @property
    def _reads_student(self) -> bool:
        return self.against == "student" and _TEACHER in self.loss.needs

    def check_records(self, stored: RecordSpec) -> None:
        if not self._reads_student:
            self.loss.check_records(stored)

    def logits(self, outputs: Outputs) -> list[Float[Array, "*b v"]]:
        """Return `d_1` to `d_K`, float32; the first of `*b` counts rows.

        Raises:
          IncompatibleLoss: a hidden state is not of `width`, or the student has more
            outputs.
        """
        entries = self.embedding.shape[0]
        if entries < outputs.num_outputs:
            raise IncompatibleLoss(
                f"Draft(num_outputs={entries}) drafts for a student of "
                f"{outputs.num_outputs} outputs"
            )
        fused = [outputs.intermediates[path] for path in self.of]
        for path, x in zip(self.of, fused, strict=True):
            if x.shape[-1] != self.width:
                raise IncompatibleLoss(
                    f"Draft(width={self.width}) reads {path} of width {x.shape[-1]}"
                )
        targets = outputs.batch["targets"]
        rows = (targets.shape[0], targets.size // targets.shape[0])
        hidden = jnp.concatenate(
            [x.astype(jnp.float32).reshape(*rows, self.width) for x in fused], axis=-1
        )
        if self.states == "constant":
            hidden = jax.lax.stop_gradient(hidden)
        follows = _follows(outputs, rows)
        before = jnp.where(follows, jnp.roll(targets.reshape(rows), 1, axis=1), 0)
        embedded = jnp.where(follows[..., None], self.embedding[...][before], 0.0)
        state = affine(hidden, *self.fuse.arrays(), dtype=self.dtype)
        drafts = []
        for _ in range(self.steps):
            state = draft_step(
                state,
                embedded,
                follows,
                self.first.arrays(),
                self.second.arrays(),
                dtype=self.dtype,
            )
            normed = root_mean_square(state)
            logits = affine(normed, *self.last.arrays(), dtype=self.dtype)
            drafts.append(logits.reshape(*targets.shape, -1))
        return drafts

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher = outputs.teacher
        if self._reads_student:
            teacher = TeacherOutputs(logits=jax.lax.stop_gradient(outputs.logits))
        values = [
            self.loss(
                dataclasses.replace(
                    outputs, logits=logits, teacher=teacher, _log_normalizers={}
                )
            )
            for logits in self.logits(outputs)
        ]
        return sum(values[1:], start=values[0]) / self.steps


def _follows(outputs: Outputs, rows: tuple[int, int]) -> Bool[Array, "b t"]:
    """Return which tokens have one before them that counts, in the same text."""
    segments = outputs.batch["segment_ids"].reshape(rows)
    counts = jnp.ones(rows, bool) if outputs.mask is None else outputs.mask
    same = jnp.roll(segments, 1, axis=1) == segments
    later = jnp.arange(rows[1])[None] > 0
    return same & jnp.roll(counts.reshape(rows), 1, axis=1) & later
