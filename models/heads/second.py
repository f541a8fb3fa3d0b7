"""A second head of a classifier, with dropout and batch norm."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, sharding
from models.base import Batch, Model, TrunkOutput, row_keys
from models.initializers import FAN_IN, SMALL
from models.kernels import projection
from models.running.state import RUNNING
from models.vision.batch_norm import BatchNorm
from models.vision.images import Classifier

LOGITS = "second/logits"


class SecondHeadLayers(nnx.Module):
    """`W relu(norm(dropout(U h + a))) + b`, norm a batch norm over ghosts.

    Args:
      dim: width of h.
      num_outputs: of the logits.
      hidden_dim: of the layer between.
      dropout: probability with which an entry is 0; the others are divided by its
        complement.
      ghost: as of `models.BatchNorm`.
      rate: likewise.
      dtype: of the products.
      param_dtype: of the parameters.
      rngs: of the initial values.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_outputs: int,
        hidden_dim: int,
        dropout: float,
        ghost: int,
        rate: float,
        dtype: str,
        param_dtype: str,
        rngs: nnx.Rngs,
    ):
        def parameter(init: Any, *shape: int) -> nnx.Param:
            axes = (None,) * len(shape)
            return sharding.parameter(init, rngs, shape, axes=axes, dtype=param_dtype)

        zeros = jax.nn.initializers.zeros
        self.dropout, self.dtype = dropout, dtype
        self.kernel = parameter(FAN_IN, dim, hidden_dim)
        self.bias = parameter(zeros, hidden_dim)
        self.norm = BatchNorm(
            dim=hidden_dim, ghost=ghost, rate=rate, param_dtype=param_dtype, rngs=rngs
        )
        self.last_kernel = parameter(SMALL, num_outputs, hidden_dim)
        self.last_bias = parameter(zeros, num_outputs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Return logits `[b outputs]`, float32, without dropout."""
        return self._last(self.norm(self._first(hidden)))

    def over_batch(
        self, hidden: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return logits with dropout and batch statistics, and what these are.

        Args:
          hidden: `[b d]`.
          keys: of the rows, `[b]`.
        """
        inner = self._first(hidden)
        keep = 1.0 - self.dropout
        drawn = functools.partial(jax.random.bernoulli, p=keep, shape=inner.shape[1:])
        inner = jnp.where(jax.vmap(drawn)(keys), inner / keep, 0.0)
        normed, observed = self.norm.over_batch(inner)
        return self._last(normed), observed

    def _first(self, hidden: jax.Array) -> jax.Array:
        product = projection.logits(hidden, self.kernel[...].T, self.dtype)
        return product + self._wide(self.bias, product)

    def _last(self, normed: jax.Array) -> jax.Array:
        inner = jax.nn.relu(normed)
        logits = projection.logits(inner, self.last_kernel[...], self.dtype)
        return logits + self._wide(self.last_bias, logits)

    def _wide(self, bias: nnx.Param, beside: jax.Array) -> jax.Array:
        return jnp.broadcast_to(bias[...].astype(jnp.float32), beside.shape)


def SecondHead(
    *,
    model: Callable[..., Model],
    ghost: int,
    hidden_dim: int = 200,
    dropout: float = 0.1,
    rate: float = 0.1,
    rngs: nnx.Rngs,
) -> Model:
    """Return `model` with a second head beside its own, of the same outputs.

    `second/logits` are `W relu(norm(dropout(U h + a))) + b` of what its own head reads,
    h; `losses.OnSecondHead` puts them in the place of the logits. Predictions, samples
    and lessons come from the own head alone. In training the norm is that of ghosts of
    `ghost` rows and dropout is drawn anew for each row and step: both are the same
    however a step is cut into microbatches of whole ghosts, whatever the mesh, and in a
    run that goes on. Evaluated, there is no dropout, and the norm reads its running
    state.

    `losses.OwnHead` is a second head without these two that belongs to the loss, of any
    model.

    Args:
      model: called with `rngs=`; a classifier of images.
      ghost: rows over which batch norm takes its statistics, see `models.BatchNorm`:
        the batch's own number for that of the paper.
      hidden_dim: width of the layer between.
      dropout: probability with which an entry of it is 0.
      rate: of the running state.
      rngs: of the initial values.

    Raises:
      ValueError: a number is out of its range, or the model is no classifier of images.

    Source: Yang et al. 2024, DHKD (arXiv:2411.08937), the classifier of its code:
      200 units, dropout of 0.1 before the norm.
    """
    checks.positive(hidden_dim=hidden_dim)
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    one = model(rngs=rngs)
    if not isinstance(one, Classifier):
        raise ValueError(
            f"SecondHead is of classifiers of images, and {type(one).__name__} is "
            "none; losses.OwnHead is a second head of any model"
        )
    both: Any = one
    both.second = SecondHeadLayers(
        dim=both.dim,
        num_outputs=both.num_outputs,
        hidden_dim=hidden_dim,
        dropout=dropout,
        ghost=ghost,
        rate=rate,
        dtype=both.dtype,
        param_dtype=str(jax.tree.leaves(nnx.state(both, nnx.Param))[0].dtype),
        rngs=rngs,
    )
    both.draws = True
    object.__setattr__(both, "__class__", _two_headed(type(both)))
    return both


@functools.cache
def _two_headed(base: type[Classifier]) -> type[Classifier]:
    """Return the class of `base` with two heads: one each, since nnx compares."""

    class TwoHeaded(base):
        second: SecondHeadLayers

        def offers(self) -> frozenset[str]:
            return super().offers() | {LOGITS, RUNNING}

        def trunk(
            self,
            batch: Batch,
            *,
            capture: frozenset[str] = frozenset(),
            remat: str = "none",
        ) -> TrunkOutput:
            own = capture - {LOGITS}
            if RUNNING not in super().offers():
                own -= {RUNNING}
            outputs = super().trunk(batch, capture=own, remat=remat)
            captured = dict(outputs.intermediates)
            if RUNNING in capture:
                keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys(batch), 1)
                logits, observed = self.second.over_batch(outputs.hidden, keys)
                # By their paths, as `runner.step.running` reads them: `second` first.
                if RUNNING in captured:
                    observed = jnp.concatenate([observed, captured[RUNNING]])
                captured[RUNNING] = observed
            elif LOGITS in capture:
                logits = self.second(outputs.hidden)
            else:
                return outputs
            if LOGITS in capture:
                captured[LOGITS] = logits
            return TrunkOutput(hidden=outputs.hidden, intermediates=captured)

    TwoHeaded.__name__, TwoHeaded.__qualname__ = base.__name__, base.__qualname__
    return TwoHeaded
