"""Modes of recording: a teacher's best entries, draws, or its whole distribution."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from losses.core.outputs import log_sum_exp, none_of
from runner.errors import UserError
from runner.recording import groups
from runner.recording.largest import largest

StoredEntries = dict[str, jax.Array]


class Mode(abc.ABC):
    """Choice of the entries that are stored at each token.

    Attributes:
      name: As in `runner.records.layout.Layout`.
      uniforms: Random numbers in [0, 1) that a token takes.
    """

    name: Literal["top_k", "sampled", "full"]
    uniforms: int = 0

    @abc.abstractmethod
    def entries(self, vocab_size: int) -> int:
        """Stored entries a token.

        Raises:
          UserError: The vocabulary has not so many.
        """

    @abc.abstractmethod
    def select(
        self, logits: jax.Array, uniform: jax.Array, temperatures: Sequence[float]
    ) -> StoredEntries:
        """Return the arrays that `encode_batch` stores.

        Args:
          logits: Whole ones, `[*b v]` float32.
          uniform: `[*b uniforms]`.
          temperatures: Those to store a log-normaliser (and an entropy) for.
        """

    def stored_temperatures(self, requested: Sequence[float]) -> tuple[float, ...]:
        """Those of `requested` that something is stored for.

        Raises:
          ValueError: There are too many, or too few.
        """
        if not requested:
            raise ValueError(f"{type(self).__name__} stores at least one temperature")
        return tuple(float(temperature) for temperature in requested)


@dataclasses.dataclass(frozen=True)
class TopK(Mode):
    """The `k` most probable entries, and log-normalisers over all and over the rest.

    Raises:
      ValueError: k is below 1.
    """

    k: int = 64
    name = "top_k"

    def __post_init__(self):
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    def entries(self, vocab_size: int) -> int:
        if self.k > vocab_size:
            raise UserError(f"mode: k is {self.k}, the vocabulary has {vocab_size}")
        return self.k

    def select(
        self, logits: jax.Array, uniform: jax.Array, temperatures: Sequence[float]
    ) -> StoredEntries:
        del uniform
        if groups.serves(logits.shape[-1], self.k):
            return groups.best_entries(logits, self.k, temperatures)
        logits = _below_largest(logits)
        best, indices = largest(logits, self.k)
        return {
            "indices": indices,
            "logits": best,
            "log_normalizers": _each(jax.nn.logsumexp, logits, temperatures),
            "log_rests": log_rests(logits, indices, temperatures),
        }


@dataclasses.dataclass(frozen=True)
class Sampled(Mode):
    """`n` draws from the distribution at the one temperature, with replacement.

    An id stands as often as it was drawn: its count over `n` is an unbiased estimate of
    its probability. Draws depend on the seed and the row alone.

    Source: Anshumann et al. 2025 (arXiv:2503.16870), the teacher being its own
    proposal.

    Raises:
      ValueError: n is below 1.
    """

    n: int = 12
    name = "sampled"

    def __post_init__(self):
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n}")

    @property
    def uniforms(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] - one a draw
        """One a draw."""
        return self.n

    def entries(self, vocab_size: int) -> int:
        del vocab_size
        return self.n

    def stored_temperatures(self, requested: Sequence[float]) -> tuple[float, ...]:
        if len(requested) != 1:
            raise ValueError(f"Sampled draws at one temperature, got {list(requested)}")
        return super().stored_temperatures(requested)

    def select(
        self, logits: jax.Array, uniform: jax.Array, temperatures: Sequence[float]
    ) -> StoredEntries:
        logits = _below_largest(logits)
        return {
            "indices": draws(logits / temperatures[0], uniform),
            "log_normalizers": _each(jax.nn.logsumexp, logits, temperatures),
            "entropies": _each(_entropy, logits, temperatures),
        }


@dataclasses.dataclass(frozen=True)
class Full(Mode):
    """Every logit; for small vocabularies. Serves every temperature."""

    name = "full"

    def entries(self, vocab_size: int) -> int:
        return vocab_size

    def stored_temperatures(self, requested: Sequence[float]) -> tuple[float, ...]:
        del requested  # whole logits give their own log-normalisers
        return ()

    def select(
        self, logits: jax.Array, uniform: jax.Array, temperatures: Sequence[float]
    ) -> StoredEntries:
        del uniform, temperatures
        return {"logits": _below_largest(logits)}


def draws(logits: jax.Array, uniform: jax.Array) -> jax.Array:
    """Ids `[*b n]` from `softmax(logits)` by its inverse distribution function.

    The smallest id whose cumulative probability exceeds the uniform number, by halving:
    `jnp.searchsorted` cannot be used inside `jax.shard_map` (jax 0.10).
    """
    cumulative = jnp.cumsum(jax.nn.softmax(logits, axis=-1), axis=-1)
    thresholds = uniform * cumulative[..., -1:]
    size = logits.shape[-1]

    def halve(_: Any, bounds: tuple[jax.Array, jax.Array]) -> tuple:
        low, high = bounds
        middle = (low + high) // 2
        beyond = jnp.take_along_axis(cumulative, middle, axis=-1) > thresholds
        return jnp.where(beyond, low, middle + 1), jnp.where(beyond, middle, high)

    low = jnp.zeros_like(thresholds, jnp.int32)
    bounds = (low, low + (size - 1))
    return jax.lax.fori_loop(0, size.bit_length(), halve, bounds)[1]


def log_rests(
    logits: jax.Array, indices: jax.Array, temperatures: Sequence[float]
) -> jax.Array:
    """`log Σ_v exp(t_v / T)` over v that are none of `indices`, `[*b temperatures]`."""
    others = jnp.where(none_of(indices, logits.shape), logits, -jnp.inf)
    return jnp.stack([log_sum_exp(others / t) for t in temperatures], axis=-1)


def _below_largest(logits: jax.Array) -> jax.Array:
    return logits - jnp.max(logits, axis=-1, keepdims=True)


def _each(fn: Any, logits: jax.Array, temperatures: Sequence[float]) -> jax.Array:
    """`fn` at each temperature, `[*b temperatures]`."""
    return jnp.stack([fn(logits / t, axis=-1) for t in temperatures], axis=-1)


def _entropy(logits: jax.Array, axis: int) -> jax.Array:
    """Entropy of `softmax(logits)`, nats."""
    log_p = jax.nn.log_softmax(logits, axis=axis)
    return jnp.sum(-jnp.exp(log_p) * jnp.maximum(log_p, -1e4), axis=axis)
