"""Loss inputs: student and teacher outputs of one block of tokens."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from losses.core.loss import Loss

PerToken = jax.Array
Batch = Mapping[str, jax.Array]


class IncompatibleLoss(ValueError):
    """A loss and what it is given do not fit each other; found while tracing."""


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
          Misfit: the logits are not whole and it was not stored for `temperature`.
        """
        if self.indices is None and self.logits is not None:
            return jax.nn.logsumexp(self.logits / temperature, axis=-1)
        if temperature not in self.log_normalizers:
            known = ", ".join(map(str, sorted(self.log_normalizers))) or "none"
            raise IncompatibleLoss(
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
class RecordSpec:
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
    mask:          the tokens that count, bool `[*b]`; None where all do.
    statistics:    masked means over the global batch of what `Loss.statistics` gave.
    step, key:     the optimiser step (int32) and a key that differs by step.
    """

    batch: Batch
    logits: jax.Array
    intermediates: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    teacher: TeacherOutputs | None = None
    mask: jax.Array | None = None
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

    @property
    def num_outputs(self) -> int:
        """Entries of the student's vocabulary."""
        return self.logits.shape[-1]

    def logits_at(self, ids: jax.Array) -> jax.Array:
        """`s_i` at `ids` `[*b k]`, `[*b k]`; an id beyond the vocabulary gives NaN."""
        return jnp.take_along_axis(self.logits, ids, axis=-1)

    def target_logits(self) -> jax.Array:
        """`s_y`, `[*b]`: the logit of each target.

        Read by a select and a sum, which fuse, where a gather would have a scatter for
        a gradient.
        """
        vocabulary = jax.lax.broadcasted_iota(
            jnp.int32, self.logits.shape, self.logits.ndim - 1
        )
        chosen = vocabulary == self.batch["targets"][..., None]
        return jnp.sum(jnp.where(chosen, self.logits, 0.0), axis=-1)

    def mean_logits(self) -> jax.Array:
        """`1/V Σ_v s_v`, `[*b]`."""
        return jnp.mean(self.logits, axis=-1)

    def values(self, loss: "Loss") -> PerToken:
        """What `loss` answers, `[*b]`."""
        return loss(self)

    def token_weights(self, weight: Callable[..., Any]) -> PerToken:
        """What `weight` answers, `[*b]`."""
        return weight(self)

    def where(self, mask: jax.Array) -> "Outputs":
        """These outputs with everything zero where `mask` `[*b]` is false.

        What is masked may hold inf or NaN; a select before the loss, not after it,
        keeps its gradient exactly zero.
        """
        return dataclasses.replace(
            self,
            logits=kept(self.logits, mask),
            intermediates=kept(dict(self.intermediates), mask),
            teacher=kept(self.teacher, mask),
            mask=mask,
            _log_normalizers={},
        )


def kept(tree: Any, mask: jax.Array) -> Any:
    """Arrays `[*b ...]`, zero where `mask` `[*b]` is false."""

    def keep(x: jax.Array) -> jax.Array:
        wide = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        return jnp.where(wide, x, jnp.zeros((), x.dtype))

    return jax.tree.map(keep, tree)
