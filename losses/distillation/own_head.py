"""Auxiliary-head losses: a second output head on the student's trunk."""

import dataclasses

from flax import nnx
from jaxtyping import Array, Float

from losses.core.affine import Affine
from losses.core.checks import check_inner
from losses.core.loss import Loss
from losses.core.of_loss import OfLoss
from losses.core.outputs import (
    FullOutputs,
    IncompatibleLoss,
    Outputs,
    PerToken,
)
from losses.functional.features import own_head_logits


class OwnHead(OfLoss, nnx.Module):
    """`loss` of the logits `W h + b`, h being the input of the student's own head.

    One trunk, two heads: the cross-entropy on the student's, distillation on this one,
    where each would spoil the other on a single head. Neither head has a gradient from
    the other's terms; the trunk has both. The head is trained and checkpointed with the
    student and is no part of it: its predictions, samples and lessons come without.

        LossTerm(
            name="kd",
            loss=functools.partial(
                losses.OwnHead,
                loss=losses.BinaryKLNorm(
                    temperature=2.0, scale_by_temperature_squared=True
                ),
                dim=256,
                num_outputs=4096,
            ),
        )

    A block of tokens holds whole rows of these logits too. So every term runs by rows
    beside it.

    Args:
      loss: reads `logits` as of any other term; no means over the batch.
      dim: the width of h.
      num_outputs: V.
      hidden_dim: of one layer before the last, `W relu(U h + a) + b`; None for none.
      dtype: that products are multiplied in; they are accumulated in float32.

    Source: DHKD (arXiv:2411.08937), its "linear" head. Its "nonlinear" one has 200
    hidden units, dropout of 0.1 and a batch norm; here neither of the two:
    `OnSecondHead` has them. Its alignment of both terms' gradients is `Unopposed`.

    Raises:
      ValueError: a size is not positive, or `loss` reads no logits or wants means.
    """

    tiled = False

    def __init__(
        self,
        *,
        loss: Loss,
        dim: int,
        num_outputs: int,
        hidden_dim: int | None = None,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        check_inner(self, loss)
        sizes = {"dim": dim, "num_outputs": num_outputs, "hidden_dim": hidden_dim}
        for name, size in sizes.items():
            if size is not None and size < 1:
                raise ValueError(f"{name} must be positive, got {size}")
        self.loss, self.dim, self.dtype = loss, dim, dtype
        self.first = (
            None
            if hidden_dim is None
            else Affine(dim, hidden_dim, axes=("embed", None), rngs=rngs)
        )
        self.last = Affine(
            hidden_dim or dim,
            num_outputs,
            axes=("embed" if hidden_dim is None else None, "vocab"),
            rngs=rngs,
        )

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        return self.loss.needs - {"logits"} | {"trunk"}

    def logits(self, hidden: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Return the logits of this head, `[*b d]` to `[*b v]`, float32.

        Raises:
          IncompatibleLoss: d is not `dim`.
        """
        if hidden.shape[-1] != self.dim:
            raise IncompatibleLoss(
                f"OwnHead(dim={self.dim}) reads hidden states of width "
                f"{hidden.shape[-1]}"
            )
        first = None if self.first is None else self.first.arrays()
        return own_head_logits(hidden, self.last.arrays(), first, dtype=self.dtype)

    def __call__(self, outputs: Outputs) -> PerToken:
        own = self.logits(outputs.intermediates["trunk"])
        return self.loss(dataclasses.replace(outputs, logits=own))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnSecondHead(OfLoss):
    """`loss` of the logits of the student's second head (`models.SecondHead`).

    That head has dropout and batch norm, and is a part of the student.

    Source: DHKD (arXiv:2411.08937), with `BinaryKLNorm` inside and its "nonlinear"
    head.

    Attributes:
      loss: reads `logits` as of any other term; no means over the batch.

    Raises:
      ValueError: `loss` reads no logits or wants means.
    """

    loss: Loss
    tiled = False

    def __post_init__(self):
        check_inner(self, self.loss)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        return self.loss.needs - {"logits"} | {"second/logits"}

    def __call__(self, outputs: Outputs) -> PerToken:
        assert isinstance(outputs, FullOutputs)  # not tiled
        second = outputs.intermediate("second/logits")
        return self.loss(dataclasses.replace(outputs, logits=second))
