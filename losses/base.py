"""What a loss sees, what it answers with, and how terms are summed."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from clu.metrics import Average

PerToken = jax.Array
Batch = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherOutputs:
    """A teacher's distribution over the vocabulary; gradients are stopped.

    Whole, as its best entries, or as draws from it:

    indices:         None for the whole vocabulary, else `[*b k]` int32: entries, the
                     most probable first, or draws, an id as often as it was drawn.
    logits:          `[*b v]` or `[*b k]`, up to a constant a token where they were
                     stored; None for draws.
    log_normalizers: by temperature T, `log Σ_v exp(t_v / T)` over the whole
                     vocabulary, `[*b]`; whole logits need none.
    entropies:       by temperature T, of `softmax(t / T)`, nats, `[*b]`; for draws.
    intermediates:   as in `Outputs`.
    """

    indices: jax.Array | None = None
    logits: jax.Array | None = None
    log_normalizers: Mapping[float, jax.Array] = dataclasses.field(default_factory=dict)
    entropies: Mapping[float, jax.Array] = dataclasses.field(default_factory=dict)
    intermediates: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)

    def log_normalizer(self, temperature: float = 1.0) -> jax.Array:
        """`log Σ_v exp(t_v / T)` over the whole vocabulary, nats, `[*b]`.

        Raises:
          ValueError: the logits are not whole and it was not stored for `temperature`.
        """
        if self.indices is None and self.logits is not None:
            return jax.nn.logsumexp(self.logits / temperature, axis=-1)
        if temperature not in self.log_normalizers:
            known = ", ".join(map(str, sorted(self.log_normalizers))) or "none"
            raise ValueError(
                f"the teacher's log-normaliser at temperature {temperature} is not "
                f"stored; stored: {known}"
            )
        return self.log_normalizers[temperature]


jax.tree_util.register_dataclass(
    TeacherOutputs,
    data_fields=[
        "indices",
        "logits",
        "log_normalizers",
        "entropies",
        "intermediates",
    ],
    meta_fields=[],
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """What records hold of a teacher, for a loss to say whether it can read them.

    mode:         `"top_k"`, `"sampled"` or `"full"`.
    temperatures: those that log-normalisers (or draws) were stored for.
    """

    mode: Literal["top_k", "sampled", "full"]
    temperatures: tuple[float, ...]


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

    def check_records(self, stored: Stored) -> None:
        """Refuse stored teacher outputs that this loss cannot read.

        Raises:
          ValueError: and what would be needed.
        """
        del stored

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
        if not callable(self.weight):
            return jnp.float32(self.weight)
        with jax.numpy_dtype_promotion("standard"):  # optax's schedules mix dtypes
            return jnp.asarray(self.weight(step), jnp.float32)


class TokenValues(NamedTuple):
    """Of one term, `[*b]` float32, zero (with zero gradient) where masked.

    values:   as the loss gives them.
    weighted: times the term's token weights; what is differentiated.
    """

    values: PerToken
    weighted: PerToken


def per_token(
    terms: Sequence[LossTerm],
    outputs: Outputs,
    *,
    masks: Mapping[str, jax.Array],
    statistics: Mapping[str, Mapping[str, jax.Array]],
) -> dict[str, TokenValues]:
    """By term, its values; `masks` and `statistics` are by term too."""
    result = {}
    for term, seen in _shown(terms, outputs, masks):
        seen = dataclasses.replace(seen, statistics=statistics.get(term.name, {}))
        mask = masks[term.name]
        values = jnp.where(mask, jnp.asarray(term.loss(seen), jnp.float32), 0.0)
        weighted = values
        if term.token_weight is not None:
            weight = jax.lax.stop_gradient(term.token_weight(seen))
            weighted = values * jnp.where(mask, weight, 0.0)
        result[term.name] = TokenValues(values, weighted)
    return result


def statistic_sums(
    terms: Sequence[LossTerm], outputs: Outputs, *, masks: Mapping[str, jax.Array]
) -> dict[str, dict[str, jax.Array]]:
    """By term, the masked sums of its `Loss.statistics`, over these tokens."""
    result = {}
    for term, seen in _shown(terms, outputs, masks):
        tokens = masks[term.name].astype(jnp.float32)
        result[term.name] = {
            name: jnp.tensordot(tokens, value, axes=tokens.ndim)
            for name, value in term.loss.statistics(seen).items()
        }
    return result


def evaluate(terms: Sequence[LossTerm], outputs: Outputs) -> dict[str, Average]:
    """By term, the masked sum of values and the count; divides nothing.

    Statistics are those of these outputs alone.
    """
    masks = {term.name: term.mask(outputs.batch) for term in terms}
    counts = {name: jnp.sum(mask, dtype=jnp.float32) for name, mask in masks.items()}
    means = {
        name: {key: value / jnp.maximum(counts[name], 1.0) for key, value in by.items()}
        for name, by in statistic_sums(terms, outputs, masks=masks).items()
    }
    found = per_token(
        terms, outputs, masks=masks, statistics=jax.lax.stop_gradient(means)
    )
    return {name: average(jnp.sum(found[name].values), counts[name]) for name in found}


def average(total: jax.Array, count: jax.Array) -> Average:
    """`total / count`, kept as the two until it is computed."""
    # clu reaches its dataclass decorator by an import that pyright does not follow.
    return Average(total=total, count=count)  # pyright: ignore[reportCallIssue]


def _shown(
    terms: Sequence[LossTerm], outputs: Outputs, masks: Mapping[str, jax.Array]
) -> Iterator[tuple[LossTerm, Outputs]]:
    """Each term with the outputs zeroed where it is masked; equal masks share them."""
    shown: dict[Callable, Outputs] = {}
    for term in terms:
        if term.mask not in shown:
            shown[term.mask] = outputs.where(masks[term.name])
        yield term, shown[term.mask]
