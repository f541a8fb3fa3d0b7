"""Relations between the tokens of a row (MiniLMv2, token relationship graphs)."""

import dataclasses
import math
from typing import Literal, get_args

import jax.numpy as jnp

from losses.core.outputs import IncompatibleLoss, Outputs, PerToken
from losses.features.layer_pairs import Features, MeanOverLayers
from losses.functional import attention

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

    Source: Wang et al. 2020, MiniLMv2 (arXiv:2012.15828), eq. 2 to 5; values alone, a
    relation head a head of attention: MiniLM (arXiv:2002.10957), eq. 8 to 10. There
    both ways, here causal.

    Attributes:
      layers: as in `OverLayers`.
      of: one relation; terms of their own add the others, MiniLMv2 weighs all three
        alike.
      heads: A, by which both widths divide. More heads compare finer relations.

    Raises:
      ValueError: there is no such relation, or no head.
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

    def layer_distance(
        self, student: Features, teacher: Features, outputs: Outputs
    ) -> PerToken:
        self._check_width(student, outputs, "student")
        self._check_width(teacher, outputs, "teacher")
        return attention.relations(
            student,
            teacher,
            outputs.batch["segment_ids"],
            heads=self.heads,
            mask=outputs.mask,
        )

    def _check_width(self, x: Features, outputs: Outputs, owner: str) -> None:
        axes = outputs.batch["targets"].shape
        width = math.prod(x.shape[len(axes) :])
        if width % self.heads:
            raise IncompatibleLoss(
                f"Relations: the {owner}'s {self.of} have {width} features, which do "
                f"not divide into {self.heads} heads"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenContext(MeanOverLayers):
    """`1/L Σ_l 1/n Σ_j (R^s_ij - R^t_ij)²` at token i, `R = softmax(X Xᵀ / √d)`.

    X are features of the n tokens of a row that count, widths may differ: all tokens of
    i's document, before and after it. The patches of an image are its tokens; it has
    their mean.

    Source: Zhang et al. 2023, token-level relationship graphs (arXiv:2306.12442), its
    contextual loss, weighed beside `TokenGraph` and `TokenContrast`.

    Attributes:
      layers: as in `OverLayers`.
      of: the intermediate: `"hidden"`, or `"patches"` of an image model.
    """

    of: str = "hidden"
    scope = "sequence"
    unit = "1"

    @property
    def path(self) -> str:
        return self.of

    def layer_distance(
        self, student: Features, teacher: Features, outputs: Outputs
    ) -> PerToken:
        axes = outputs.batch["targets"].shape
        if student.ndim > len(axes) + 1:
            sizes = {"axis": -2, "name": "patches", "remedy": "give both as many"}
            self.check_sizes(student, teacher, **sizes)
            rows = (x.reshape((*axes, -1, x.shape[-1])) for x in (student, teacher))
            return jnp.mean(attention.token_context(*rows), axis=-1)
        segments = outputs.batch["segment_ids"]
        same = jnp.expand_dims(segments, -1) == jnp.expand_dims(segments, -2)
        if outputs.mask is not None:
            same &= jnp.expand_dims(outputs.mask, -2)
        return attention.token_context(student, teacher, same)
