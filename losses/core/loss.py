"""The loss interface: inputs (`Outputs`) to per-token values."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.core.masks import target_mask
from losses.core.outputs import Arrays, Outputs, PerToken, RecordSpec
from losses.core.vocab_sums import TiledOutputs


class Loss:
    """One value per token; divides by nothing.

    Masking, normalising, weighting, blocking, accumulating, sharding and logging are
    the runner's. Frozen dataclasses and `nnx.Module`s inherit from it; the latter own
    parameters, which are trained and checkpointed but are no part of the student.

    A class is abstract or final: one that leaves an `abc.abstractmethod` undefined is
    refused where it is defined, unless it is `class Base(Loss, abstract=True)`.

    Attributes:
      needs: paths among the model's intermediates; `"logits"` is the output;
        `"teacher/logits"`, `"teacher/hidden/6"` are the teacher's.
      scope: `"token"` values see one token each. `"sequence"` values see whole
        sequences. `"batch"` values see the whole batch at once, and cannot be
        accumulated or sharded.
      default_mask: of a batch, the tokens that a term of this loss counts where it says
        nothing else: those with a target, or all that are not padding (`token_mask`).
      reads: of a batch, the tokens whose outputs it reads, bool `[*b]`, where these are
        others than those that its term counts: one that has a value a sequence counts
        one token of it, and reads all. None for those that count.
      unit: of a value, for reports; `"1"` where it has none.
      tiled: whether `call_tiled` does without whole rows of logits; None has the
        runner find out by tracing it. A subclass that defines either call anew
        declares it anew.
      reads_rows: whether it reads `batch["place"]`, the places of rows in the global
        batch, and `Outputs.num_rows`; see `losses.OfRows`.
      statistic_passes: over the batch, for `statistics`; in a second one they may be
        taken around the means of the first.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    scope: ClassVar[Literal["token", "sequence", "batch"]] = "token"
    default_mask: ClassVar[Callable[..., Bool[Array, "*b"]]] = staticmethod(target_mask)
    reads: ClassVar[Callable[..., Bool[Array, "*b"]] | None] = None
    unit: ClassVar[str] = "nats"
    tiled: ClassVar[bool | None] = None
    reads_rows: ClassVar[bool] = False
    statistic_passes: ClassVar[int] = 1

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        # A declaration is of the form beside it: another form is undeclared.
        if "tiled" not in vars(cls) and {"__call__", "call_tiled"} & vars(cls).keys():
            cls.tiled = None
        undefined = _undefined(cls)
        if undefined and not abstract:
            raise TypeError(
                f"{cls.__name__} must define {', '.join(undefined)}; a base of other "
                f"losses says so: class {cls.__name__}(..., abstract=True)"
            )
        # As `abc.ABCMeta` does, which an `nnx.Module` cannot have for a metaclass.
        cls.__abstractmethods__ = frozenset(undefined)

    @abc.abstractmethod
    def __call__(self, outputs: Outputs) -> PerToken:
        """Return values `[*b]`, float32."""

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        """Return the same values from logits tiled over the vocabulary.

        A loss that reads no more of them than `log_normalizer`, `logits_at`,
        `target_logits`, `mean_logits` and `variance_of_logits` has this form already.

        Raises:
          NeedsFullLogits: it reads whole rows of logits.
        """
        return self(outputs)

    def statistics(self, outputs: Outputs) -> Mapping[str, Float[Array, "..."]]:
        """Return per-token arrays `[*b ...]` whose masked global means the loss reads.

        They come back, with gradients stopped, as `outputs.statistics`; at once, to
        the next pass over the batch, where `statistic_passes` is above 1.
        """
        del outputs
        return {}

    def statistic_sums(
        self, outputs: Outputs, tokens: Float[Array, "*b"]
    ) -> Mapping[str, Float[Array, "..."]]:
        """Return `Σ_b tokens_b a_b` of `statistics`; tokens `[*b]`, 1 = counts.

        A loss overrides it to contract where `a` is too large to exist once a token, as
        an outer product is.
        """
        return {
            name: jnp.tensordot(tokens, value, axes=tokens.ndim)
            for name, value in self.statistics(outputs).items()
        }

    def settled(self, means: Arrays) -> Arrays:
        """Return `Outputs.statistics` from the means of the last pass.

        A loss overrides it to compute once what every block would compute again.
        """
        return means

    def initial(self) -> Mapping[str, Float[Array, ""]]:
        """Return its memory before the first step, part of every checkpoint.

        In training it is among `outputs.statistics`, by the same names; in an
        evaluation it is not.
        """
        return {}

    def remember(
        self,
        value: Float[Array, ""],
        memory: Mapping[str, Float[Array, ""]],
        step: Int[Array, ""],
    ) -> Mapping[str, Float[Array, ""]]:
        """Return its memory after a batch.

        Args:
          value: of its term on the global batch.
          memory: before the batch.
          step: of the optimiser, from 0.
        """
        del value, step
        return memory

    def check_records(self, stored: RecordSpec) -> None:
        """Refuse stored teacher outputs that this loss cannot read.

        Raises:
          ValueError: it cannot; the message says what it would read.
        """
        del stored


Loss.__abstractmethods__ = frozenset({"__call__"})


class TokenWeight(abc.ABC):
    """Factors of per-token values, never of the counts.

    Gradients are stopped. Any function of `Outputs` that gives `[*b]` will do where
    nothing is needed but the batch.

    Attributes:
      needs: as of a `Loss`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    @abc.abstractmethod
    def __call__(self, outputs: Outputs) -> PerToken:
        """Return weights `[*b]`, float32."""

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        """Return the same weights from logits tiled over the vocabulary.

        Raises:
          NeedsFullLogits: it reads whole rows of logits.
        """
        return self(outputs)

    def explain_zero(self) -> str:
        """Return why it may be 0 at every token, for a message to the user."""
        return f"{type(self).__name__} is 0 at each of them"


def _undefined(cls: type) -> list[str]:
    """Return the names of abstract methods that a class leaves undefined."""
    abstract = {
        name
        for base in cls.__mro__
        for name, value in vars(base).items()
        if getattr(value, "__isabstractmethod__", False)
    }
    return sorted(
        name
        for name in abstract
        if getattr(getattr(cls, name), "__isabstractmethod__", False)
    )
