"""How alike the tokens of a document are, to the student and to the teacher."""

import dataclasses
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from losses.core.outputs import IncompatibleLoss, Outputs, PerToken
from losses.features.attention_maps import row_kl
from losses.features.layer_pairs import MeanOverLayers

Related = Literal["queries", "keys", "values", "hidden"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relations(MeanOverLayers):
    """`1/L Σ_i 1/A Σ_a KL(R^T_a ‖ R^S_a)`, nats, A relation heads.

        R_a = softmax(X_a X_aᵀ / √d_a)

    X are the queries (or keys, or values) of all heads side by side, cut into A parts
    of `d_a` features; so widths and numbers of heads may differ. A token relates to
    itself and to what is before it in its document, among the tokens that the term
    counts: padding is no key. Queries and keys are compared as attention multiplies
    them, with their positions in them (RoPE).

    of:    one relation; terms of their own add the others, MiniLMv2 weighs all three
           alike.
    heads: A, by which both widths divide. More of them see finer relations.

    Source: Wang et al. 2020, MiniLMv2 (arXiv:2012.15828), eq. 2 to 5; values alone, a
    relation head a head of attention: MiniLM (arXiv:2002.10957), eq. 8 to 10. There
    both ways, here causal.

    Raises:
      ValueError: it is no such relation, or there is no head.
    """

    of: Related
    heads: int

    scope = "sequence"

    def __post_init__(self):
        super().__post_init__()
        if self.of not in get_args(Related):
            raise ValueError(
                f"of must be one of {', '.join(get_args(Related))}, got {self.of!r}"
            )
        if self.heads < 1:
            raise ValueError(f"heads must be at least 1, got {self.heads}")

    @property
    def path(self) -> str:
        return self.of

    def between(
        self, student: jax.Array, teacher: jax.Array, outputs: Outputs
    ) -> PerToken:
        ours, theirs = (
            self._relations(x, outputs, who)
            for x, who in ((student, "student"), (teacher, "teacher"))
        )
        seen = jnp.expand_dims(_related(outputs), -2)
        seen = jnp.broadcast_to(seen, ours.shape)
        return jnp.mean(row_kl(theirs, ours, seen), axis=-1)

    def _relations(self, x: jax.Array, outputs: Outputs, who: str) -> jax.Array:
        """Scores `[*b A t]` of every token with all of its row."""
        axes = outputs.batch["targets"].shape
        width = math.prod(x.shape[len(axes) :])
        if width % self.heads:
            raise IncompatibleLoss(
                f"Relations: the {who}'s {self.of} have {width} features, which do not "
                f"divide into {self.heads} heads"
            )
        parts = x.reshape(*axes, self.heads, width // self.heads)
        scale = math.sqrt(width / self.heads)
        return jnp.einsum("...tad,...sad->...tas", parts, parts) / scale


def _related(outputs: Outputs) -> jax.Array:
    """Whether token t relates to token s of its row, bool `[*b s]`."""
    documents = outputs.batch["segment_ids"]
    length = documents.shape[-1]
    same = jnp.expand_dims(documents, -1) == jnp.expand_dims(documents, -2)
    if outputs.mask is not None:
        same &= jnp.expand_dims(outputs.mask, -2)
    earlier = jnp.broadcast_to(jnp.tri(length, dtype=bool), same.shape)
    itself = jnp.broadcast_to(jnp.eye(length, dtype=bool), same.shape)
    return (same & earlier) | itself
