"""A bias on the logits of some classes while training."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from losses.core.checks import check_inner
from losses.core.loss import Loss
from losses.core.of_loss import OfLoss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassBias(OfLoss):
    """`loss` of the student's logits `s_v + b` for the classes `first <= v < last`.

    The bias is in this term alone, and gone when the student predicts: a positive one
    has the model learn logits that are about b lower there, as if those classes were
    `e^b` times rarer. With a cross-entropy and the classes that an update adds, it
    keeps the margins of the old ones. The same b on all classes changes nothing.

    Source: the margin-preserving training of arXiv:2511.08322, b = 4; that is ruinous
    where the model is not fitted well: try 0.5 and 1 too.

    Attributes:
      loss: reads logits; no means over the batch.
      first: the first of the classes.
      last: what follows the last of them; None for the end.
      bias: b.

    Raises:
      ValueError: the range holds no class, b is not finite, or `loss` cannot be inside.
    """

    loss: Loss
    first: int
    last: int | None = None
    bias: float = 1.0
    tiled = False

    def __post_init__(self):
        check_inner(self, self.loss)
        if self.first < 0 or (self.last is not None and self.last <= self.first):
            raise ValueError(
                f"first <= v < last must hold a class, got {self.first} and {self.last}"
            )
        if not math.isfinite(self.bias):
            raise ValueError(f"bias must be finite, got {self.bias}")

    def __call__(self, outputs: Outputs) -> PerToken:
        if self.first >= outputs.num_outputs:
            raise IncompatibleLoss(
                f"ClassBias: first={self.first}, and the student has the classes 0 to "
                f"{outputs.num_outputs - 1}"
            )
        logits = outputs.logits
        ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
        last = outputs.num_outputs if self.last is None else self.last
        inside = (ids >= self.first) & (ids < last)
        biased = dataclasses.replace(
            outputs,
            logits=logits + jnp.where(inside, jnp.float32(self.bias), 0.0),
        )
        return self.loss(biased)
