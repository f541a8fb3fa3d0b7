"""What a loss sees, what it answers with, and how terms are summed."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from clu.metrics import Average

PerToken = jax.Array
Batch = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherOutputs:
    """A teacher's distribution, whole or as stored entries; gradients are stopped.

    indices:        `[*b k]` entries of the vocabulary, or None for all of it.
    logits:         `[*b k]` (or `[*b v]`).
    log_normalizer: `[*b]`, over the whole vocabulary.
    intermediates:  as in `Outputs`.
    """

    indices: jax.Array | None
    logits: jax.Array
    log_normalizer: jax.Array
    intermediates: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
    """One block of tokens as a loss sees it. `*b` are any leading token axes.

    batch:         tokens, targets, mask, segment_ids, positions ... each `[*b ...]`.
    logits:        the student's, float32 `[*b v]`.
    intermediates: what the loss `needs` by path, `[*b ...]`.
    teacher:       None without a teacher.
    statistics:    masked means over the global batch of what `Loss.statistics` gave.
    step, key:     the optimiser step (int32) and a key that differs by step.
    """

    batch: Batch
    logits: jax.Array
    intermediates: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    teacher: TeacherOutputs | None = None
    statistics: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    step: jax.Array | int = 0
    key: jax.Array | None = None
    _log_normalizers: dict[float, jax.Array] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    def log_normalizer(self, temperature: float = 1.0) -> jax.Array:
        """`log Σ_v exp(s_v / T)`, nats, `[*b]`; computed once for all terms."""
        if temperature not in self._log_normalizers:
            self._log_normalizers[temperature] = jax.nn.logsumexp(
                self.logits / temperature, axis=-1
            )
        return self._log_normalizers[temperature]

    def where(self, mask: jax.Array) -> "Outputs":
        """These outputs with everything zero where `mask` `[*b]` is false.

        What is masked may hold inf or NaN; a select before the loss, not after it,
        keeps its gradient exactly zero.
        """

        def keep(x: jax.Array) -> jax.Array:
            wide = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
            return jnp.where(wide, x, jnp.zeros((), x.dtype))

        return dataclasses.replace(
            self,
            logits=keep(self.logits),
            intermediates=jax.tree.map(keep, dict(self.intermediates)),
            teacher=jax.tree.map(keep, self.teacher),
            _log_normalizers={},
        )


for _struct in (TeacherOutputs, Outputs):
    jax.tree_util.register_dataclass(
        _struct,
        data_fields=[
            f.name for f in dataclasses.fields(_struct) if f.name[0] != "_"
        ],
        meta_fields=[],
    )


class Loss:
    """One value per token; divides by nothing.

    Masking, normalising, weighting, blocking, accumulating, sharding and logging are
    the runner's. Frozen dataclasses and `nnx.Module`s inherit from it; the latter own
    parameters, which are trained and checkpointed but not exported.

    needs: paths among the model's intermediates; `"logits"` is the output.
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

    def __call__(self, outputs: Outputs) -> PerToken:
        """Values `[*b]`, float32."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")


def target_mask(batch: Batch) -> jax.Array:
    """Tokens that have a target, bool `[*b]`."""
    return batch["mask"].astype(bool)


def token_mask(batch: Batch) -> jax.Array:
    """Tokens that are not padding, bool `[*b]`."""
    return batch["segment_ids"] > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossTerm:
    """A loss with a name, a weight and the tokens it counts.

    weight:       a float, or a function of the optimiser step (any optax schedule).
    mask:         batch -> bool `[*b]`.
    token_weight: outputs -> float `[*b]`; multiplies values, never counts; gradients
                  are stopped.

    Raises:
      ValueError: the name is no identifier, or the weight is neither kind.
    """

    name: str
    loss: Loss | Callable[..., Loss]
    weight: float | Callable[[Any], Any] = 1.0
    mask: Callable[[Batch], jax.Array] = target_mask
    token_weight: Callable[[Outputs], jax.Array] | None = None

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z_]\w*", self.name):
            raise ValueError(f"a term's name must be an identifier, got {self.name!r}")
        if isinstance(self.weight, bool) or not (
            callable(self.weight) or isinstance(self.weight, (int, float))
        ):
            raise ValueError(
                f"weight of {self.name!r} must be a number or a function of the step, "
                f"got {self.weight!r}"
            )

    def weight_at(self, step: jax.Array) -> jax.Array:
        """The weight at an optimiser step, float32 scalar."""
        weight = self.weight(step) if callable(self.weight) else self.weight
        return jnp.asarray(weight, jnp.float32)


def values(
    terms: Sequence[LossTerm],
    outputs: Outputs,
    *,
    masks: Mapping[str, jax.Array] | None = None,
    statistics: Mapping[str, Mapping[str, jax.Array]] | None = None,
) -> dict[str, PerToken]:
    """Per-token values of every term, zero (with zero gradient) where masked.

    masks:      by term, where they are known already.
    statistics: by term, see `Loss.statistics`.
    """
    masks = masks or {term.name: term.mask(outputs.batch) for term in terms}
    shown = shown_to(terms, outputs, masks)
    result = {}
    for term in terms:
        seen = dataclasses.replace(
            shown[term.name], statistics=(statistics or {}).get(term.name, {})
        )
        value = term.loss(seen).astype(jnp.float32)
        result[term.name] = jnp.where(masks[term.name], value, 0.0)
    return result


def shown_to(
    terms: Sequence[LossTerm], outputs: Outputs, masks: Mapping[str, jax.Array]
) -> dict[str, Outputs]:
    """By term, the outputs with masked tokens zeroed; shared between equal masks."""
    by_mask = {
        term.mask: outputs.where(masks[term.name]) for term in reversed(terms)
    }
    return {term.name: by_mask[term.mask] for term in terms}


def evaluate(
    terms: Sequence[LossTerm],
    outputs: Outputs,
    *,
    statistics: Mapping[str, Mapping[str, jax.Array]] | None = None,
) -> dict[str, Average]:
    """By term, the masked sum of values and the count; divides nothing."""
    masks = {term.name: term.mask(outputs.batch) for term in terms}
    per_token = values(terms, outputs, masks=masks, statistics=statistics)
    return {
        name: Average(
            total=jnp.sum(per_token[name]),
            count=jnp.sum(masks[name].astype(jnp.float32)),
        )
        for name in per_token
    }
