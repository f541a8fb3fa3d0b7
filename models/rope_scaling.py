"""Scalings of rotary frequencies that extend the context of a published model."""

import dataclasses
import math

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
