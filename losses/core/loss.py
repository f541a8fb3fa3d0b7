"""The loss interface: inputs (`Outputs`) to per-token values."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.core.vocab_sums import TiledOutputs


class Loss:
    """One value per token; divides by nothing.

    Masking, normalising, weighting, blocking, accumulating, sharding and logging are
    the runner's. Frozen dataclasses and `nnx.Module`s inherit from it; the latter own
    parameters, which are trained and checkpointed but not exported.

    needs: paths among the model's intermediates; `"logits"` is the output;
           `"teacher/logits"`, `"teacher/hidden/6"` are the teacher's.
    scope: `"token"` values see one token each. `"sequence"` values see whole
           sequences. `"batch"` values see the whole batch at once, and cannot be
           accumulated or sharded.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    scope: ClassVar[Literal["token", "sequence", "batch"]] = "token"

    def statistics(self, outputs: Outputs) -> Mapping[str, jax.Array]:
        """Per-token arrays `[*b ...]` whose masked global means the loss wants.

        They come back, with gradients stopped, as `outputs.statistics`.
        """
        del outputs
        return {}

    def statistic_sums(
        self, outputs: Outputs, tokens: jax.Array
    ) -> Mapping[str, jax.Array]:
        """`Σ_b tokens_b a_b` of what `statistics` gives; tokens `[*b]`, 1 = counts.

        For a loss to contract itself where `a` is too large to exist once a token, as
        an outer product is.
        """
        return {
            name: jnp.tensordot(tokens, value, axes=tokens.ndim)
            for name, value in self.statistics(outputs).items()
        }

    def check_records(self, stored: RecordSpec) -> None:
        """Refuse stored teacher outputs that this loss cannot read.

        Raises:
          ValueError: and what would be needed.
        """
        del stored

    def __call__(self, outputs: Outputs) -> PerToken:
        """Values `[*b]`, float32."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        """The same values where the logits are made a tile of the vocabulary at a time.

        A loss that reads no more of them than `log_normalizer`, `logits_at`,
        `target_logits` and `mean_logits` has this form already.

        Raises:
          NeedsFullLogits: it wants whole rows of logits.
        """
        return self(outputs)


class TokenWeight:
    """What values are multiplied by before they are added; never the counts.

    Gradients are stopped. Any function of `Outputs` that gives `[*b]` will do where
    nothing is needed but the batch.

    needs: as of a `Loss`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, outputs: Outputs) -> PerToken:
        """Weights `[*b]`, float32."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        """The same where the logits are made a tile of the vocabulary at a time.

        Raises:
          NeedsFullLogits: it wants whole rows of logits.
        """
        return self(outputs)
