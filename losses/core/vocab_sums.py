"""Loss inputs for vocabulary-tiled logits: only reductions over it are available.

No row of logits exists then. A loss asks for log-normalisers, expectations under a
softmax and plain totals: first of `SumRequests`, which records what is asked for, then
of `SumResults`, once `losses.core.vocab_sums_pass` has computed it tile by tile.
"""

import abc
import collections
import copy
import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.core.outputs import (
    NeedsFullLogits,
    Outputs,
    PerToken,
    pass_gradient_if,
    zero_outside,
)
from losses.core.tiles import Distribution, Entrywise, Tile, Tilewise


class VocabSums(abc.ABC):
    """Source of the sums over the vocabulary that losses ask for."""

    @abc.abstractmethod
    def log_normalizer(self, of: Distribution) -> Float[Array, "*b"]:
        """Return `log Σ_v exp x_v`, nats."""

    @abc.abstractmethod
    def log_normalizer_outside(
        self, of: Distribution, ids: Int[Array, "*b k"]
    ) -> Float[Array, "*b"]:
        """Return `log Σ_v exp x_v` over v that are none of `ids`; -inf of nothing."""

    @abc.abstractmethod
    def expected(self, under: Distribution, of: Entrywise) -> Float[Array, "*b"]:
        """Return `Σ_v softmax(x)_v y_v`; every y must be finite."""

    @abc.abstractmethod
    def total(
        self, of: Tilewise, *, shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        """Return `Σ_tiles of(tile)`, `[*b *shape]`."""

    @abc.abstractmethod
    def where(self, mask: Bool[Array, "*b"]) -> "VocabSums":
        """Return these sums, zero where `mask` is false."""

    @abc.abstractmethod
    def detached_unless(self, active: Bool[Array, ""]) -> "VocabSums":
        """Return equal sums through which gradients flow only if `active`."""


class Selection(NamedTuple):
    """The tokens that a term counts, and whether its gradients flow.

    Attributes:
      mask: of the tokens; None where all count.
      active: bool `[]`; None where gradients flow.
    """

    mask: Bool[Array, "*b"] | None = None
    active: Bool[Array, ""] | None = None


def _of_selected(of: Tilewise, selection: Selection, tile: Tile) -> Float[Array, "..."]:
    """Return `of` a tile as its term sees it.

    Another term may count a token that this one does not. Its logits are finite to this
    term all the same, or 0 · NaN would reach the gradient of the tile.
    """
    student, teacher, (mask, active) = tile.student, tile.teacher, selection
    if mask is not None:
        student = jnp.where(mask[..., None], student, 0.0)
        teacher = teacher if teacher is None else jnp.where(mask[..., None], teacher, 0)
    if active is not None:
        student = jnp.where(active, student, jax.lax.stop_gradient(student))
    return of(tile._replace(student=student, teacher=teacher))


@dataclasses.dataclass(frozen=True)
class SumRequests(VocabSums):
    """Record of the sums that losses ask for; it answers with zeros.

    Attributes:
      token_axes: sizes of `*b`.
      moments: by distribution, what is expected under it; its log-normaliser comes too.
      totals: with their shapes after `*b`.
      excluded: ids that distributions leave out.
      selection: of tokens, and whether gradients flow, for what is asked from here on.
    """

    token_axes: tuple[int, ...]
    moments: dict[Distribution, list[Entrywise]] = dataclasses.field(
        default_factory=dict
    )
    totals: list[tuple[Tilewise, tuple[int, ...]]] = dataclasses.field(
        default_factory=list
    )
    excluded: list[Int[Array, "*b k"]] = dataclasses.field(default_factory=list)
    selection: Selection = dataclasses.field(default_factory=Selection)

    def log_normalizer(self, of: Distribution) -> Float[Array, "*b"]:
        self.moments.setdefault(of, [])
        return jnp.zeros(self.token_axes)

    def log_normalizer_outside(
        self, of: Distribution, ids: Int[Array, "*b k"]
    ) -> Float[Array, "*b"]:
        number = len(self.excluded)
        self.excluded.append(ids)
        return self.log_normalizer(dataclasses.replace(of, excluded=number))

    def expected(self, under: Distribution, of: Entrywise) -> Float[Array, "*b"]:
        y = functools.partial(_of_selected, of, self.selection)
        self.moments.setdefault(under, []).append(y)
        return jnp.zeros(self.token_axes)

    def total(
        self, of: Tilewise, *, shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        self.totals.append((functools.partial(_of_selected, of, self.selection), shape))
        return jnp.zeros((*self.token_axes, *shape))

    def where(self, mask: Bool[Array, "*b"]) -> "SumRequests":
        selection = self.selection._replace(mask=mask)
        return dataclasses.replace(self, selection=selection)  # it shares the lists

    def detached_unless(self, active: Bool[Array, ""]) -> "SumRequests":
        selection = self.selection._replace(active=active)
        return dataclasses.replace(self, selection=selection)


@dataclasses.dataclass
class SumResults(VocabSums):
    """Sums over the vocabulary, returned in the order in which they were recorded.

    Attributes:
      distributions: those of the next two lists.
      normalizers: log-normalisers, `[*b]`.
      expectations: of each distribution, in the order of the requests.
      totals: each `[*b ...]`, in the order of the requests.
    """

    distributions: tuple[Distribution, ...]
    normalizers: list[Float[Array, "*b"]]
    expectations: list[list[Float[Array, "*b"]]]
    totals: list[Float[Array, "..."]]
    # Counts what was read of each list; masked views go on where the others stand.
    _places: dict[Any, Iterator[int]] = dataclasses.field(
        default_factory=functools.partial(collections.defaultdict, itertools.count),
        init=False,
        repr=False,
    )
    _mask: Bool[Array, "*b"] | None = dataclasses.field(
        default=None, init=False, repr=False
    )

    def log_normalizer(self, of: Distribution) -> Float[Array, "*b"]:
        value = self.normalizers[self.distributions.index(of)]
        return value if self._mask is None else jnp.where(self._mask, value, 0.0)

    def log_normalizer_outside(
        self, of: Distribution, ids: Int[Array, "*b k"]
    ) -> Float[Array, "*b"]:
        del ids
        number = next(self._places["excluded"])
        return self.log_normalizer(dataclasses.replace(of, excluded=number))

    def expected(self, under: Distribution, of: Entrywise) -> Float[Array, "*b"]:
        del of
        place = next(self._places[under])
        value = self.expectations[self.distributions.index(under)][place]
        return value if self._mask is None else jnp.where(self._mask, value, 0.0)

    def total(
        self, of: Tilewise, *, shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        del of, shape
        value = self.totals[next(self._places["totals"])]
        if self._mask is None:
            return value
        axes = tuple(range(self._mask.ndim, value.ndim))
        return jnp.where(jnp.expand_dims(self._mask, axes), value, 0.0)

    def where(self, mask: Bool[Array, "*b"]) -> "SumResults":
        masked = copy.copy(self)  # it shares the places
        masked._mask = mask
        return masked

    def detached_unless(self, active: Bool[Array, ""]) -> "SumResults":
        detached = copy.copy(self)  # as above
        lists = (self.normalizers, self.expectations, self.totals)
        lists = pass_gradient_if(active, lists)
        detached.normalizers, detached.expectations, detached.totals = lists
        return detached


jax.tree_util.register_dataclass(
    SumResults,
    data_fields=["normalizers", "expectations", "totals"],
    meta_fields=["distributions"],
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TiledOutputs(Outputs):
    """`Outputs` without rows of logits.

    Attributes:
      sums: the source of sums over the vocabulary.
      vocabulary: the student's entries, V.
      teacher_width: the teacher's entries where its logits are tiled too, else None.
    """

    sums: VocabSums
    vocabulary: int
    teacher_width: int | None = None

    @property
    def logits(self) -> NoReturn:  # pyright: ignore[reportIncompatibleVariableOverride] - has none
        """Refuse to be read.

        Raises:
          NeedsFullLogits: always.
        """
        raise NeedsFullLogits

    @property
    def num_outputs(self) -> int:
        return self.vocabulary

    def log_normalizer(self, temperature: float = 1.0) -> PerToken:
        return self.sums.log_normalizer(self.student(temperature))

    def log_normalizer_outside(
        self, ids: Int[Array, "*b k"], temperature: float = 1.0
    ) -> PerToken:
        return self.sums.log_normalizer_outside(self.student(temperature), ids)

    def logits_at(self, ids: Int[Array, "*b k"]) -> Float[Array, "*b k"]:
        def at_ids(tile: Tile) -> Float[Array, "*b k"]:
            place, inside = tile.place(ids)
            logits = jnp.take_along_axis(tile.student, place, axis=-1)
            return jnp.where(inside, logits, 0.0)

        in_vocabulary = (ids >= 0) & (ids < self.vocabulary)
        logits = self.sums.total(at_ids, shape=ids.shape[-1:])
        return jnp.where(in_vocabulary, logits, jnp.nan)

    def target_logits(self) -> PerToken:
        targets = self.batch["targets"][..., None]

        def at_target(tile: Tile) -> PerToken:
            is_target = jnp.broadcast_to(tile.entries, tile.student.shape) == targets
            return jnp.sum(jnp.where(is_target, tile.student, 0.0), axis=-1)

        logits = self.sums.total(at_target)
        return jnp.where(self.targets_outside(self.vocabulary), jnp.nan, logits)

    def mean_logits(self) -> PerToken:
        total = self.sums.total(lambda tile: jnp.sum(tile.student, axis=-1))
        return total / self.vocabulary

    def variance_of_logits(self) -> PerToken:
        # One pass knows no mean before its end: a difference of means, as rounding
        # leaves it.
        total = self.sums.total(lambda tile: jnp.sum(jnp.square(tile.student), axis=-1))
        difference = total / self.vocabulary - jnp.square(self.mean_logits())
        return jnp.maximum(difference, 0.0)

    def where(self, mask: Bool[Array, "*b"]) -> "TiledOutputs":
        others = dict(self.intermediates), self.teacher
        intermediates, teacher = zero_outside(others, mask)
        return dataclasses.replace(
            self,
            intermediates=intermediates,
            teacher=teacher,
            sums=self.sums.where(mask),
            mask=mask,
        )

    def detached_unless(self, active: Bool[Array, ""]) -> "TiledOutputs":
        return dataclasses.replace(
            self,
            intermediates=pass_gradient_if(active, dict(self.intermediates)),
            sums=self.sums.detached_unless(active),
        )

    def student(self, temperature: float) -> Distribution:
        """Return the student's distribution over its whole vocabulary."""
        return Distribution("student", temperature, self.vocabulary)

    def both(self, temperature: float) -> tuple[Distribution, Distribution]:
        """Return the teacher's and the student's over the ids that both have.

        Raises:
          NeedsFullLogits: the teacher's logits are not tiled.
        """
        if self.teacher_width is None:
            raise NeedsFullLogits
        width = min(self.vocabulary, self.teacher_width)
        return (
            Distribution("teacher", temperature, width),
            Distribution("student", temperature, width),
        )

    def normalizer_of(self, distribution: Distribution) -> PerToken:
        """Return `log Σ_v exp x_v`, nats."""
        return self.sums.log_normalizer(distribution)

    def expected(self, under: Distribution, of: Entrywise) -> PerToken:
        """Return `Σ_v softmax(x)_v y_v`; every y must be finite."""
        return self.sums.expected(under, of)

    def total(
        self, of: Tilewise, *, shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        """Return `Σ_tiles of(tile)`, `[*b *shape]`."""
        return self.sums.total(of, shape=shape)
