"""Scalings of rotary frequencies that extend the context of a published model."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from models import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear:
    """`f / factor`: all positions shrink by one factor (position interpolation).

    Source: Chen et al. 2023 (arXiv:2306.15595), equation 4.
    """

    factor: float

    def __post_init__(self):
        checks.positive(factor=self.factor)

    def __call__(self, frequencies: jax.Array) -> jax.Array:
        """Scale frequencies `[head_dim/2]`."""
        return frequencies / self.factor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3:
    """`f · share + f / factor · (1 - share)`, each frequency by its turns in a context.

    `turns = original_length · f / 2π`; `share` rises from 0 at `low_turns` to 1 at
    `high_turns`: fast rotations stay, slow ones shrink.

    Attributes:
      factor: by which slow rotations are divided.
      low_turns: at most so many turns count as slow.
      high_turns: at least so many count as fast.
      original_length: tokens of context before the extension.

    Source: the `llama3` type of the configurations of Llama 3.1.
    """

    factor: float
    low_turns: float
    high_turns: float
    original_length: int

    def __post_init__(self):
        checks.positive(
            factor=self.factor,
            low_turns=self.low_turns,
            original_length=self.original_length,
        )
        if not self.high_turns > self.low_turns:
            raise ValueError(
                "high_turns must be above low_turns, "
                f"got {self.high_turns} and {self.low_turns}"
            )

    def __call__(self, frequencies: jax.Array) -> jax.Array:
        """Scale frequencies `[head_dim/2]`."""
        turns = frequencies * (self.original_length / (2 * math.pi))
        share = (turns - self.low_turns) / (self.high_turns - self.low_turns)
        share = jnp.clip(share, 0.0, 1.0)
        return frequencies * (share + (1 - share) / self.factor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class YaRN:
    """`f · (1 - r) + f / factor · r`, `r` rising along the frequencies.

    With `turns(i) = original_length · f_i / 2π`, `r` is 0 up to the frequency of
    `fast_turns` and 1 from that of `slow_turns`, and linear in its number `i` between.

    Attributes:
      factor: by which slow rotations are divided.
      original_length: tokens of context before the extension.
      fast_turns: at least so many turns stay as they are (β).
      slow_turns: at most so many are divided (α).
      amplitude: factor on cosines and sines; None is `0.1 · ln factor + 1`.
      truncate: the ends of the ramp are whole numbers, down and up.

    Source: Peng et al. 2023 (arXiv:2309.00071), section 3.4; the ramp is that of its
    code, over numbers of frequencies rather than over turns (definition 2).
    """

    factor: float
    original_length: int
    fast_turns: float = 32.0
    slow_turns: float = 1.0
    amplitude: float | None = None
    truncate: bool = True

    def __post_init__(self):
        checks.positive(
            factor=self.factor,
            original_length=self.original_length,
            slow_turns=self.slow_turns,
            amplitude=self.amplitude,
        )
        if not self.fast_turns > self.slow_turns:
            raise ValueError(
                "fast_turns must be above slow_turns, "
                f"got {self.fast_turns} and {self.slow_turns}"
            )

    def __call__(self, frequencies: jax.Array) -> jax.Array:
        """Scale frequencies `[head_dim/2]`, a geometric series from 1."""
        count = frequencies.shape[0]
        if count == 1:  # the fastest is never divided
            return frequencies
        # The series is read off its last member: `ln f_i = -i · step`.
        step = -jnp.log(frequencies[-1]) / (count - 1)
        low, high = (
            math.log(self.original_length / (turns * 2 * math.pi)) / step
            for turns in (self.fast_turns, self.slow_turns)
        )
        if self.truncate:
            low, high = jnp.floor(low), jnp.ceil(high)
        low, high = jnp.maximum(low, 0), jnp.minimum(high, 2 * count - 1)
        width = jnp.where(low == high, 0.001, high - low)
        share = jnp.clip((jnp.arange(count, dtype=jnp.float32) - low) / width, 0.0, 1.0)
        return frequencies * (1 - share + share / self.factor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongRoPE:
    """`f_i / short_i`, and in documents longer than `original_length` `f_i / long_i`.

    Attributes:
      short: a factor a frequency.
      long: likewise.
      original_length: tokens of context before the extension.
      amplitude: factor on cosines and sines, in short documents too; see
        `long_amplitude`.

    Source: Ding et al. 2024 (arXiv:2402.13753), section 3.3. Its users (Phi-3) look at
    the longest text of a batch; a document's length keeps it apart from its neighbours.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_length: int
    amplitude: float = 1.0

    def __post_init__(self):
        checks.positive(original_length=self.original_length, amplitude=self.amplitude)
        for name in ("short", "long"):
            PerFrequency(factors=getattr(self, name))
        if len(self.short) != len(self.long):
            raise ValueError(
                f"short and long must be as many, got {len(self.short)} and "
                f"{len(self.long)}"
            )

    def __call__(self, frequencies: jax.Array) -> jax.Array:
        """Scale frequencies `[head_dim/2]` as in short documents."""
        return PerFrequency(factors=self.short)(frequencies)

    def by_token(
        self,
        frequencies: jax.Array,
        positions: jax.Array,
        lengths: jax.Array | None = None,
    ) -> jax.Array:
        """Scale frequencies `[f]` by the lengths of documents, `[*b t f]`.

        Args:
          frequencies: radians per position.
          positions: `[*b t]`, counted from the start of each document.
          lengths: `[*b]`, of the one document that each row is a part of; None where
            rows hold whole ones.
        """
        if lengths is None:
            length = _document_lengths(positions)
        else:
            length = jnp.broadcast_to(lengths[..., None], positions.shape)
        long = PerFrequency(factors=self.long)(frequencies)
        is_long = (length > self.original_length)[..., None]
        shape = (*positions.shape, frequencies.shape[0])
        return jnp.where(
            jnp.broadcast_to(is_long, shape),
            jnp.broadcast_to(long, shape),
            jnp.broadcast_to(self(frequencies), shape),
        )


def _document_lengths(positions: jax.Array) -> jax.Array:
    """Return the length of each token's document, of positions `[*b t]`."""
    # It ends where the next position does not follow.
    follows = positions[..., 1:] == positions[..., :-1] + 1
    count = positions.shape[-1]
    within = jnp.where(follows, count - 1, jnp.arange(count - 1))
    ends = jnp.full(positions.shape, count - 1).at[..., :-1].set(within)
    last = jax.lax.cummin(ends, axis=positions.ndim - 1, reverse=True)
    return jnp.take_along_axis(positions, last, axis=-1) + 1


def long_amplitude(factor: float, original_length: int) -> float:
    """`√(1 + ln f / ln n)` of factor f and n tokens; 1 where nothing is extended.

    Source: arXiv:2402.13753 as Phi-3 has it (transformers 5.24.0).
    """
    if factor <= 1:
        return 1.0
    return math.sqrt(1 + math.log(factor) / math.log(original_length))


def amplitude(scaling: Any) -> float:
    """Return the factor on cosines and sines; of a scaling that names none, 1."""
    factor = getattr(scaling, "amplitude", 1.0)
    return usual_amplitude(scaling.factor) if factor is None else factor


def usual_amplitude(factor: float) -> float:
    """`0.1 · ln factor + 1` (arXiv:2309.00071, equation 22)."""
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerFrequency:
    """`f_i / factors_i`: a factor a frequency, as GGUF files store any scaling."""

    factors: tuple[float, ...]

    def __post_init__(self):
        if not all(factor > 0 for factor in self.factors):
            raise ValueError(f"factors must be positive, got {self.factors}")

    def __call__(self, frequencies: jax.Array) -> jax.Array:
        """Scale frequencies `[head_dim/2]`, one for each of `factors`."""
        if frequencies.shape != (len(self.factors),):
            raise ValueError(
                f"factors must be {frequencies.shape[0]}, half of head_dim, "
                f"got {len(self.factors)}"
            )
        return frequencies / jnp.asarray(self.factors, jnp.float32)
