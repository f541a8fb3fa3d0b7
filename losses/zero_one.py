"""Zero-one loss: a metric."""

import dataclasses

import jax.numpy as jnp

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroOne(Loss):
    """1 where the target is not the most probable output; its mean is the error.

    A metric: it has no gradient. `OnView(loss=ZeroOne(), view=...)` is the error under
    an attack.
    """

    needs = frozenset({"logits"})
    tiled = False
    unit = "1"

    def __call__(self, outputs: Outputs) -> PerToken:
        predicted = jnp.argmax(outputs.logits, axis=-1)
        return (predicted != outputs.batch["targets"]).astype(jnp.float32)
