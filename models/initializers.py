"""Initializers of parameters: small objects that a config can name and print.

Called as `(key, shape, dtype)`, so that anything of `jax.nn.initializers` serves too.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp

from models import checks


class Initializer(Protocol):
    """Callable that fills an array, as `jax.nn.initializers` do."""

    def __call__(self, key: jax.Array, shape: Sequence[int], dtype: str) -> jax.Array:
        """Return an array of this shape and type."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normal:
    """Gaussian of standard deviation `stddev`, truncated at two of them."""

    stddev: float = 0.02

    def __post_init__(self):
        checks.not_negative(stddev=self.stddev)

    def __call__(self, key: jax.Array, shape: Sequence[int], dtype: str) -> jax.Array:
        """Draw an array of `shape`."""
        # Cutting at two standard deviations leaves 0.8796 of the standard deviation.
        draw = jax.random.truncated_normal(key, -2.0, 2.0, tuple(shape), dtype)
        return draw * (self.stddev / 0.87962566103423978)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FanIn:
    """Variance `scale / inputs` for a matrix `[inputs, outputs]`: LeCun's rule.

    Keeps the size of activations through a layer, whatever its width.
    """

    scale: float = 1.0

    def __post_init__(self):
        checks.not_negative(scale=self.scale)

    def __call__(self, key: jax.Array, shape: Sequence[int], dtype: str) -> jax.Array:
        """Draw an array of `shape`."""
        return Normal(stddev=math.sqrt(self.scale / shape[0]))(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Constant:
    """`value` everywhere."""

    value: float

    def __call__(self, key: jax.Array, shape: Sequence[int], dtype: str) -> jax.Array:
        """Return an array of `shape`."""
        return jnp.full(shape, self.value, dtype)


@dataclasses.dataclass(frozen=True)
class Scaled:
    """`factor` times the values of `init`."""

    init: Initializer
    factor: float

    def __call__(self, key: jax.Array, shape: Sequence[int], dtype: str) -> jax.Array:
        """Draw an array of `shape`."""
        return self.init(key, shape, dtype) * self.factor


FAN_IN = FanIn()
SMALL = Normal(stddev=0.02)
EMBEDDING = Normal(stddev=0.2)
