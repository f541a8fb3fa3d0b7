"""Loss inputs: student and teacher outputs of one block of tokens."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from losses.core.rows import LogNormalizers, picked

PerToken = Float[Array, "*b"]
Arrays = Mapping[str, Shaped[Array, "..."]]
Batch = Arrays

TEACHER = "teacher/"
"""Prefix of a teacher's paths in `Loss.needs`."""


def path_of_teacher(teacher: str, path: str) -> str:
    """Return the path of an output of one teacher among several.

    Args:
      teacher: its name.
      path: as of a single one: `teacher/logits`, say.
    """
    return f"{TEACHER}{teacher}/{path.removeprefix(TEACHER)}"


HEAD, CONSTANT_HEAD = "head/", "constant_head/"
"""Prefixes of the paths of logits that the student's head gives of intermediates."""


def head_path(path: str, *, constant: bool = False) -> str:
    """Return the path of the logits that the student's head gives of an intermediate.

    A block of tokens makes them, float32 `[*b v]`, as it makes those of the student.

    Args:
      path: of the intermediate, `[*b d]`, d being the width that the head reads.
      constant: whether the head has no gradient from them.
    """
    return f"{CONSTANT_HEAD if constant else HEAD}{path}"


def read_by_head(path: str) -> str:
    """Return the intermediate that a head path is of; any other path as it is."""
    return path.removeprefix(HEAD).removeprefix(CONSTANT_HEAD)


class IncompatibleLoss(ValueError):
    """A loss does not fit its inputs; raised while tracing."""


class NeedsFullLogits(Exception):
    """A loss reads whole rows of logits where none exist."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherOutputs:
    """A teacher's distribution over the vocabulary; gradients are stopped.

    It is whole, or its most probable entries, or draws from it.

    Attributes:
      indices: None for the whole vocabulary, else `[*b k]` int32: entries, the most
        probable first, or draws, an id as often as it was drawn.
      logits: `[*b v]` or `[*b k]`, up to a constant a token where they were stored;
        None for draws.
      log_normalizers: by temperature T, `log Σ_v exp(t_v / T)` over the whole
        vocabulary, `[*b]`; whole logits need none.
      log_rests: the same over all that is not among the entries, -inf of nothing. It
        may be missing: a log-normaliser tells a rest of 1e-6 and more.
      entropies: by temperature T, of `softmax(t / T)`, nats, `[*b]`; for draws.
      intermediates: as in `Outputs`.
    """

    indices: Int[Array, "*b k"] | None = None
    logits: Float[Array, "*b n"] | None = None
    log_normalizers: Mapping[float, PerToken] = dataclasses.field(default_factory=dict)
    log_rests: Mapping[float, PerToken] = dataclasses.field(default_factory=dict)
    entropies: Mapping[float, PerToken] = dataclasses.field(default_factory=dict)
    intermediates: Arrays = dataclasses.field(default_factory=dict)

    def log_normalizer(self, temperature: float = 1.0) -> PerToken:
        """Return `log Σ_v exp(t_v / T)` over the whole vocabulary, nats, `[*b]`.

        Raises:
          IncompatibleLoss: the logits are not whole and it was not stored for
            `temperature`.
        """
        if self.indices is None and self.logits is not None:
            return jax.nn.logsumexp(self.logits / temperature, axis=-1)
        if temperature not in self.log_normalizers:
            stored = ", ".join(map(str, sorted(self.log_normalizers))) or "none"
            raise IncompatibleLoss(
                f"the teacher's log-normaliser at temperature {temperature} is not "
                f"stored; stored: {stored}"
            )
        return self.log_normalizers[temperature]


jax.tree_util.register_dataclass(
    TeacherOutputs,
    data_fields=[
        "indices",
        "logits",
        "log_normalizers",
        "log_rests",
        "entropies",
        "intermediates",
    ],
    meta_fields=[],
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordSpec:
    """Contents of stored teacher outputs, for `Loss.check_records`.

    Attributes:
      mode: `"top_k"`, `"sampled"` or `"full"`.
      temperatures: those that log-normalisers (or draws) were stored for; none where
        the mass outside of the best entries is not known.
      partial: whether some tokens were not scored: `batch["teacher/known"]` says which
        were, and a term that reads the teacher counts those alone.
      remedy: what gives other temperatures, where no recording does: the head of a
        call with all of them, `Aligned(temperatures=`.
    """

    mode: Literal["top_k", "sampled", "full"]
    temperatures: tuple[float, ...]
    partial: bool = False
    remedy: str = ""

    def require_temperature(self, temperature: float, reader: str) -> None:
        """Refuse a loss of another temperature than those that were stored.

        Args:
          temperature: that the loss reads.
          reader: name of the loss, for the message.

        Raises:
          ValueError: with the temperatures that there are, and what gives others.
        """
        if temperature in self.temperatures:
            return
        if self.remedy:
            wanted = tuple(sorted({*self.temperatures, float(temperature)}))
            raise ValueError(
                f"{reader} wants temperature {temperature}, which the teacher does not "
                f"give; wanted: {self.remedy}{wanted})"
            )
        available = ", ".join(map(str, self.temperatures)) or "none"
        raise ValueError(
            f"{reader} wants temperature {temperature}, which the records were not "
            f"made for; stored: {available}"
        )


class _Logits(abc.ABC):
    # Declared outside a dataclass: a field here would be one of `TiledOutputs` too.
    logits: Float[Array, "*b v"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs(_Logits):
    """Inputs of a loss: one block of tokens. `*b` are any leading token axes.

    Abstract: `FullOutputs` holds whole rows of logits; `TiledOutputs` has reductions
    over the vocabulary alone, and reading its `logits` raises `NeedsFullLogits`.

    Attributes:
      batch: tokens, targets, mask, segment_ids, positions ... each `[*b ...]`.
      logits: the student's, float32 `[*b v]`.
      intermediates: by path, what the loss `needs`, `[*b ...]`.
      teacher: None without a teacher.
      mask: the tokens that count, bool `[*b]`; None where all do.
      statistics: masked means over the global batch of `Loss.statistics`.
      step: of the optimiser, int32.
      key: differs by step.
      num_rows: of the global batch.
    """

    batch: Batch
    intermediates: Arrays = dataclasses.field(default_factory=dict)
    teacher: TeacherOutputs | None = None
    mask: Bool[Array, "*b"] | None = None
    statistics: Arrays = dataclasses.field(default_factory=dict)
    step: Int[Array, ""] | int = 0
    key: PRNGKeyArray | None = None
    num_rows: int = 0

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """Entries of the student's vocabulary."""

    @abc.abstractmethod
    def log_normalizer(self, temperature: float = 1.0) -> PerToken:
        """Return `log Σ_v exp(s_v / T)`, nats, `[*b]`; computed once for all terms."""

    @abc.abstractmethod
    def log_normalizer_outside(
        self, ids: Int[Array, "*b k"], temperature: float = 1.0
    ) -> PerToken:
        """Return `log Σ_v exp(s_v / T)` over v that are none of `ids` `[*b k]`, nats.

        Exact however little that is; -inf of nothing, and without a gradient.
        """

    @abc.abstractmethod
    def logits_at(self, ids: Int[Array, "*b k"]) -> Float[Array, "*b k"]:
        """Return `s_i` at `ids` `[*b k]`; an id outside the vocabulary gives NaN."""

    @abc.abstractmethod
    def target_logits(self) -> PerToken:
        """Return `s_y`, `[*b]`; NaN at `targets_outside` of the vocabulary."""

    @abc.abstractmethod
    def mean_logits(self) -> PerToken:
        """Return `1/V Σ_v s_v`, `[*b]`."""

    @abc.abstractmethod
    def variance_of_logits(self) -> PerToken:
        """Return `1/V Σ_v (s_v - mean s)²`, `[*b]`."""

    @abc.abstractmethod
    def where(self, mask: Bool[Array, "*b"]) -> "Outputs":
        """Return these outputs with everything zero where `mask` `[*b]` is false.

        Masked entries may hold inf or NaN; a select before the loss, not after it,
        keeps their gradient exactly zero.
        """

    @abc.abstractmethod
    def detached_unless(self, active: Bool[Array, ""]) -> "Outputs":
        """Return equal outputs through which gradients flow only if `active`, bool.

        A cotangent of 0 is not enough where a derivative is inf: 0 · inf is NaN.
        """

    def targets_outside(self, size: int) -> Bool[Array, "*b"]:
        """Return which tokens count though their target is no id below `size`."""
        targets = self.batch["targets"]
        outside = (targets < 0) | (targets >= size)
        return outside if self.mask is None else outside & self.mask

    def intermediate(self, path: str) -> Shaped[Array, "..."]:
        """Return an intermediate by its path; the teacher's paths start `teacher/`."""
        if not path.startswith(TEACHER):
            return self.intermediates[path]
        assert self.teacher is not None  # `needs` has asked for it
        return self.teacher.intermediates[path.removeprefix(TEACHER)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullOutputs(Outputs):
    """`Outputs` with whole rows of logits."""

    logits: Float[Array, "*b v"]
    _log_normalizers: LogNormalizers = dataclasses.field(
        default_factory=LogNormalizers, repr=False, compare=False
    )

    @property
    def num_outputs(self) -> int:
        return self.logits.shape[-1]

    def log_normalizer(self, temperature: float = 1.0) -> PerToken:
        if isinstance(temperature, jax.Array):  # of a schedule; it has no hash
            return jax.nn.logsumexp(self.logits / temperature, axis=-1)
        return self._log_normalizers.of(self.logits, temperature)

    def log_normalizer_outside(
        self, ids: Int[Array, "*b k"], temperature: float = 1.0
    ) -> PerToken:
        others = none_of(ids, self.logits.shape)
        return log_sum_exp(jnp.where(others, self.logits / temperature, -jnp.inf))

    def logits_at(self, ids: Int[Array, "*b k"]) -> Float[Array, "*b k"]:
        beyond = jnp.where(ids < 0, self.num_outputs, ids)  # -1 would be the last
        return jnp.take_along_axis(self.logits, beyond, axis=-1)

    def target_logits(self) -> PerToken:
        logits = picked(self.logits, self.batch["targets"])
        return jnp.where(self.targets_outside(self.num_outputs), jnp.nan, logits)

    def mean_logits(self) -> PerToken:
        return jnp.mean(self.logits, axis=-1)

    def variance_of_logits(self) -> PerToken:
        return jnp.var(self.logits, axis=-1)

    def where(self, mask: Bool[Array, "*b"]) -> "FullOutputs":
        logits = zero_outside(self.logits, mask)
        return dataclasses.replace(
            self,
            logits=logits,
            intermediates=zero_outside(dict(self.intermediates), mask),
            teacher=zero_outside(self.teacher, mask),
            mask=mask,
            _log_normalizers=LogNormalizers(logits, self.logits, mask),
        )

    def detached_unless(self, active: Bool[Array, ""]) -> "FullOutputs":
        return dataclasses.replace(
            self,
            logits=pass_gradient_if(active, self.logits),
            intermediates=pass_gradient_if(active, dict(self.intermediates)),
        )


def none_of(ids: Int[Array, "*b k"], shape: tuple[int, ...]) -> Bool[Array, "*b v"]:
    """Return which places of `shape` `[*b v]` are none of `ids` `[*b k]`, bool."""
    every = jnp.ones(shape, bool)
    return jnp.put_along_axis(every, ids, False, axis=-1, inplace=False, mode="drop")


def log_sum_exp(scores: Float[Array, "*b v"]) -> PerToken:
    """Return `log Σ_v exp x_v`, `[*b]`; of -inf alone -inf, with a gradient of zero."""
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    finite = jnp.where(top == -jnp.inf, 0.0, top)
    mass = jnp.sum(jnp.exp(scores - finite), axis=-1)
    nothing = mass == 0.0
    log_mass = jnp.log(jnp.where(nothing, 1.0, mass)) + finite[..., 0]
    return jnp.where(nothing, -jnp.inf, log_mass)


def zero_outside(tree: Any, mask: Bool[Array, "*b"]) -> Any:
    """Return arrays `[*b ...]` with zeros where `mask` `[*b]` is false."""

    def select(x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        column = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        return jnp.where(column, x, jnp.zeros((), x.dtype))

    return jax.tree.map(select, tree)


def pass_gradient_if(active: Bool[Array, ""], tree: Any) -> Any:
    """Return equal arrays whose gradient is exactly zero unless `active`, bool `[]`."""

    def select(x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        return jnp.where(active, x, jax.lax.stop_gradient(x))

    return jax.tree.map(select, tree)
