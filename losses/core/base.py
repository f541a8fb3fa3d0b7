"""What a loss sees, and what it answers with."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from losses.core.vocab_sums import Reduced

PerToken = jax.Array
Batch = Mapping[str, jax.Array]


class Misfit(ValueError):
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
            raise Misfit(
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

    def check_records(self, stored: Stored) -> None:
        """Refuse stored teacher outputs that this loss cannot read.

        Raises:
          ValueError: and what would be needed.
        """
        del stored

    def __call__(self, outputs: Outputs) -> PerToken:
        """Values `[*b]`, float32."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    def over_tiles(self, outputs: "Reduced") -> PerToken:
        """The same values where the logits are made a tile of the vocabulary at a time.

        A loss that reads no more of them than `log_normalizer`, `logits_at`,
        `target_logits` and `mean_logits` has this form already.

        Raises:
          NeedsRows: it wants whole rows of logits.
        """
        return self(outputs)


def target_mask(batch: Batch) -> jax.Array:
    """Tokens that have a target, bool `[*b]`."""
    return batch["mask"].astype(bool)


def token_mask(batch: Batch) -> jax.Array:
    """Tokens that are not padding, bool `[*b]`."""
    return batch["segment_ids"] > 0


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

    def over_tiles(self, outputs: "Reduced") -> PerToken:
        """The same where the logits are made a tile of the vocabulary at a time.

        Raises:
          NeedsRows: it wants whole rows of logits.
        """
        return self(outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossTerm:
    """A loss with a name, a weight and the tokens it counts.

    weight:       a float, a function of the optimiser step (any optax schedule), or a
                  `losses.Balance`.
    mask:         batch -> bool `[*b]`.
    token_weight: outputs -> float `[*b]`, or a `losses.Reweighting`; multiplies values,
                   never counts; gradients are stopped.

    Raises:
      ValueError: the name is no identifier, or the weight is of no such kind.
    """

    name: str
    loss: Loss | Callable[..., Loss]
    weight: float | Callable[..., Any] = 1.0
    mask: Callable[[Batch], jax.Array] = target_mask
    token_weight: Callable[..., Any] | None = None

    def __post_init__(self):
        check_name(self.name, "term")
        check_weight(self.name, self.weight)

    @property
    def needs(self) -> frozenset[str]:
        """Of the loss, and of the weights of its tokens."""
        assert isinstance(self.loss, Loss)  # made, if it owns parameters
        return self.loss.needs | getattr(self.token_weight, "needs", frozenset())


def check_name(name: str, kind: str) -> None:
    """ValueError unless `name` is an identifier; `kind` says of what."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"a {kind}'s name must be an identifier, got {name!r}")


def check_weight(name: str, weight: object) -> None:
    """ValueError unless `weight` is a number or something to call."""
    if isinstance(weight, bool) or not (
        callable(weight) or isinstance(weight, (int, float))
    ):
        raise ValueError(
            f"weight of {name!r} must be a number or a function of the step, "
            f"got {weight!r}"
        )
