"""Logits of a model from which those of an assistant are taken away."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

IMPOSSIBLE = -1e5
"""The least log-probability of an assistant that counts, nats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast:
    """`t_v + scale · log a_v` at the tokens v that are likely, `t_v` at all others.

    t are the logits of a model, a the probabilities of an assistant that knows what is
    to be forgotten, and nothing else: where a is uniform, the likely tokens keep their
    odds, and all others become less probable.
    Likely is what is within `log share` of the best log-probability of the model, or
    among the best `share` of its tokens: others could only come up by what the
    assistant says of them.

    Source: Ji et al. 2024, unlearning from logit difference (arXiv:2406.08607), with
    its released code, whose filter sets the assistant's *logits* to 0: a constant in
    them changes the result there, and none here. -0.8 and 0.01 for its TOFU.

    Attributes:
      scale: at most 0, how much is taken away. Above 0 likely tokens would fall behind
        all that are not.
      share: of tokens and probability; 1 filters nothing.

    Raises:
      ValueError: the scale is above 0 or not finite, or the share outside (0, 1].
    """

    scale: float = -0.8
    share: float = 0.01

    def __post_init__(self):
        if not -math.inf < self.scale <= 0.0:
            raise ValueError(f"scale must be at most 0 and finite, got {self.scale}")
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"share must be in (0, 1], got {self.share}")

    def __call__(
        self, logits: Float[Array, "*b v"], assistant: Float[Array, "*b w"]
    ) -> Float[Array, "*b n"]:
        """Return float32 logits, of the entries that both have."""
        width = min(logits.shape[-1], assistant.shape[-1])
        logits, assistant = (
            x[..., :width].astype(jnp.float32) for x in (logits, assistant)
        )
        log_p, log_a = jax.nn.log_softmax(logits), jax.nn.log_softmax(assistant)
        count = max(1, int(self.share * width))
        last = jax.lax.top_k(log_p, count)[0][..., -1:]
        best = jnp.max(log_p, axis=-1, keepdims=True)
        likely = log_p >= jnp.minimum(last, best + math.log(self.share))
        away = jnp.where(likely, jnp.maximum(log_a, IMPOSSIBLE), 0.0)
        return logits + self.scale * away
