"""Batch norm over ghosts of a batch, with a running state."""

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, sharding
from models.initializers import Constant
from models.running.state import Mean, Running


class BatchNorm(nnx.Module):
    """`(x - mean) / sqrt(variance + eps) * scale + offset`, a channel at a time.

    In training mean and variance are those of a *ghost*: `ghost` of the batch's rows,
    over all their places. With `ghost` = batch it is batch norm. Of n ghosts, number j
    holds the rows j, j + n, j + 2n, ...: the same rows however the step is cut into
    microbatches, if these are whole ghosts, and whatever the mesh.

    Evaluated, it reads the running state: after a step the moving mean, at `rate`, of
    the mean over the step's ghosts, of means and of variances (`n` below, not `n - 1`).
    The paper's Algorithm 1 moves it once a ghost at η: that is `1 - (1 - η)^n` a step
    and a ghost's weight by its place, where here all ghosts have one. Averages of
    weights (`runner.averages`) leave the running state to that of the weights.

    Args:
      dim: channels.
      ghost: rows of a ghost; divides the rows of a microbatch.
      rate: of the running state.
      eps: added to the variance.
      param_dtype: type of scale and offset.
      rngs: of the initial values.

    Source: Hoffer et al. 2017 (arXiv:1705.08741), Algorithm 1, ghosts of 128 and
    η = 0.1; Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 1.
    """

    def __init__(
        self,
        *,
        dim: int,
        ghost: int,
        rate: float = 0.1,
        eps: float = 1e-5,
        param_dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        checks.positive(ghost=ghost, rate=rate, eps=eps)
        self.ghost, self.eps = ghost, eps

        def vector(value: float) -> nnx.Param:
            start = Constant(value)
            return sharding.parameter(
                start, rngs, (dim,), axes=(None,), dtype=param_dtype
            )

        self.scale, self.offset = vector(1.0), vector(0.0)
        start = jnp.stack([jnp.zeros(dim), jnp.ones(dim)])
        self.running = Running.of(start, Mean(rate))  # mean and variance

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalize `x [b ... dim]` by the running state; the result has its type."""
        mean, variance = self.running[...]
        return self._affine(x, x.astype(jnp.float32), mean, variance)

    def over_batch(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Normalize `x [b ... dim]` by its ghosts.

        Returns:
          The result, and what the running state observes: `[2 dim]`.

        Raises:
          ValueError: the rows are no whole ghosts.
        """
        rows = x.shape[0]
        if rows % self.ghost:
            raise ValueError(
                f"ghosts of {self.ghost} rows do not divide a microbatch of {rows}"
            )
        wide = x.astype(jnp.float32)
        ghosts = wide.reshape(self.ghost, rows // self.ghost, -1, x.shape[-1])
        mean = jnp.mean(ghosts, axis=(0, 2), keepdims=True)
        variance = jnp.mean(jnp.square(ghosts - mean), axis=(0, 2), keepdims=True)
        normed = self._affine(x, ghosts, mean, variance)
        observed = jnp.concatenate([mean, variance], axis=-1)
        return normed, jax.lax.stop_gradient(jnp.mean(observed, axis=(0, 1, 2)))

    def _affine(
        self, x: jax.Array, wide: jax.Array, mean: jax.Array, variance: jax.Array
    ) -> jax.Array:
        shape = wide.shape
        root = jax.lax.rsqrt(variance + self.eps)
        normed = (wide - jnp.broadcast_to(mean, shape)) * jnp.broadcast_to(root, shape)
        scale, offset = (
            jnp.broadcast_to(vector[...].astype(jnp.float32), shape)
            for vector in (self.scale, self.offset)
        )
        return (normed * scale + offset).reshape(x.shape).astype(x.dtype)
