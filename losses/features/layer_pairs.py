"""Pairs of a student's and a teacher's layer, and losses over them."""

import abc
import dataclasses
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.loss import Loss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken

Features = Float[Array, "..."]
"""Intermediates of one layer, `[*b ...]`."""

Pairs = Sequence[tuple[int, int]]


def uniform_map(
    *, student_layers: int, teacher_layers: int
) -> tuple[tuple[int, int], ...]:
    """Return `(i, ⌊(i + 1) teacher / student⌋ - 1)` for all i; last pairs with last.

    Source: Jiao et al. 2019, TinyBERT (arXiv:1909.10351), section 4.1, there
    `g(m) = 3m`, counted from 1.

    Args:
      student_layers: their number.
      teacher_layers: their number.

    Raises:
      ValueError: the student has more layers, or none.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(
            "student_layers must be from 1 to teacher_layers "
            f"({teacher_layers}), got {student_layers}"
        )
    last = [(i + 1) * teacher_layers // student_layers for i in range(student_layers)]
    return tuple((i, end - 1) for i, end in enumerate(last))


def check_pairs(layers: Pairs) -> None:
    """Refuse layers that are no map from the student's to the teacher's.

    Raises:
      ValueError: layers are no pairs of numbers, or one of the student's comes twice.
    """
    valid = [
        len(pair) == 2 and all(type(x) is int and x >= 0 for x in pair)
        for pair in layers
    ]
    if not valid or not all(valid):
        raise ValueError(
            "layers must be pairs (student's layer, teacher's layer) from 0, such as "
            f"((0, 1), (1, 3)), got {layers!r}"
        )
    ours = [i for i, _ in layers]
    if len(set(ours)) < len(ours):
        raise ValueError(f"layers names a student's layer twice, got {layers!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverLayers(Loss, abstract=True):
    """A loss between an intermediate of the student's layer i and the teacher's f(i).

    Attributes:
      layers: the pairs `(i, f(i))`, counted from 0; see `uniform_map`.

    Raises:
      ValueError: layers are no pairs, or one of the student's comes twice.
    """

    layers: Pairs

    def __post_init__(self):
        check_pairs(self.layers)
        # A list, as a command line gives one, has no hash.
        pairs = tuple((i, j) for i, j in self.layers)
        object.__setattr__(self, "layers", pairs)

    @property
    @abc.abstractmethod
    def path(self) -> str:
        """Path of the intermediate, without its layer."""

    @property
    def paths(self) -> list[tuple[str, str]]:
        """Paths of the student's intermediate and the teacher's, for every pair."""
        return [
            (f"{self.path}/{i}", f"teacher/{self.path}/{j}") for i, j in self.layers
        ]

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return frozenset(path for pair in self.paths for path in pair)

    def pairs(self, outputs: Outputs) -> Iterator[tuple[Features, Features]]:
        """Yield student's and teacher's, float32 `[*b ...]`, by pair of layers."""
        for ours, theirs in self.paths:
            student, teacher = (
                outputs.intermediate(ours),
                outputs.intermediate(theirs),
            )
            yield student.astype(jnp.float32), teacher.astype(jnp.float32)

    def check_sizes(
        self,
        student: Features,
        teacher: Features,
        *,
        axis: int,
        name: str,
        remedy: str,
    ) -> None:
        """Refuse intermediates that differ in length along an axis.

        Args:
          student: an intermediate.
          teacher: an intermediate.
          axis: of both.
          name: of what is counted along the axis, for the message.
          remedy: the last words of the message.

        Raises:
          IncompatibleLoss: they differ.
        """
        ours, theirs = student.shape[axis], teacher.shape[axis]
        if ours != theirs:
            raise IncompatibleLoss(
                f"{type(self).__name__}: the student has {ours} {name} and the teacher "
                f"{theirs}; {remedy}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanOverLayers(OverLayers, abstract=True):
    """`1/L Σ_i D(student i, teacher f(i))`; a subclass defines D, `layer_distance`."""

    @abc.abstractmethod
    def layer_distance(
        self, student: Features, teacher: Features, outputs: Outputs
    ) -> PerToken:
        """Return `D`, `[*b]`, of one pair."""

    def __call__(self, outputs: Outputs) -> PerToken:
        distances = [self.layer_distance(s, t, outputs) for s, t in self.pairs(outputs)]
        return jnp.mean(jnp.stack(distances), axis=0)
