"""Learnt projection of student features to the teacher's width, owned by the loss."""

import dataclasses
import inspect
from typing import TypeVar

import jax
from flax import nnx
from jaxtyping import Array, Float

from losses.core.loss import Loss
from losses.core.of_loss import OfLoss
from losses.core.of_means import OfMeans
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken
from losses.core.vocab_sums import TiledOutputs
from losses.functional.features import project

AnyOutputs = TypeVar("AnyOutputs", bound=Outputs)

INIT = jax.nn.initializers.lecun_normal()


class Projected(OfLoss, nnx.Module):
    """`loss` of `W_i s_i` in place of every intermediate `s_i` that it needs.

    A matrix `[student_dim teacher_dim]` a layer, without an offset, that starts by
    keeping the size of what it maps. It is trained and checkpointed with the student
    and is no part of it: a student that becomes a teacher has none.

        functools.partial(
            losses.Projected,
            loss=losses.FeatureMSE(layers=((0, 0), (1, 3))),
            student_dim=192,
            teacher_dim=256,
        )

    Source: Romero et al. 2014, FitNets (arXiv:1412.6550), section 2.2, the regressor;
    Jiao et al. 2019, TinyBERT (arXiv:1909.10351), eq. 8, there one for all layers.

    Args:
      loss: reads intermediates of the student.
      student_dim: their width.
      teacher_dim: the width they are mapped to.
      rngs: of the initial matrices.

    Raises:
      ValueError: a width is below 1, or the loss compares any widths as it is.
    """

    def __init__(
        self, *, loss: Loss, student_dim: int, teacher_dim: int, rngs: nnx.Rngs
    ):
        for name, value in (
            ("student_dim", student_dim),
            ("teacher_dim", teacher_dim),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if isinstance(loss, OfMeans):
            raise ValueError(
                f"{type(loss).__name__} compares any widths, and wants no projection"
            )
        self.loss = loss
        shape = (student_dim, teacher_dim)
        self.projections = nnx.Dict(
            {
                _name(path): nnx.Param(INIT(rngs.params(), shape))
                for path in self._inputs
            }
        )

    @property
    def _inputs(self) -> list[str]:
        """Paths of the projected intermediates."""
        return sorted(
            path
            for path in self.loss.needs
            if not path.startswith("teacher/") and path != "logits"
        )

    def __call__(self, outputs: Outputs) -> PerToken:
        return self.loss(self._with_projections(outputs))

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        return self.loss.call_tiled(self._with_projections(outputs))

    def _with_projections(self, outputs: AnyOutputs) -> AnyOutputs:
        projected = {path: self._project(outputs, path) for path in self._inputs}
        return dataclasses.replace(
            outputs, intermediates={**outputs.intermediates, **projected}
        )

    def _project(self, outputs: Outputs, path: str) -> Float[Array, "*b d"]:
        x, matrix = outputs.intermediates[path], self.projections[_name(path)][...]
        if x.shape[-1] != matrix.shape[0]:
            raise IncompatibleLoss(
                f"Projected: the student's {path} is {x.shape[-1]} wide, and "
                f"student_dim says {matrix.shape[0]}"
            )
        return project(x, matrix)


# The metaclass of `nnx.Module` hides what a graph reads of `__init__`.
Projected.__signature__ = inspect.signature(
    Projected.__init__
).replace(  # pyright: ignore[reportAttributeAccessIssue] - read by `inspect`
    parameters=list(inspect.signature(Projected.__init__).parameters.values())[1:]
)


def _name(path: str) -> str:
    return path.replace("/", "_")
