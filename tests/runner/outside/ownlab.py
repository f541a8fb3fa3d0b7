"""A researcher's package: a loss, a metric, a model, data, an optimiser, a mask."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import losses
import models
from models import sharding
from runner import data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Focal(losses.Loss):
    """`-(1 - q_y)^γ log q_y`, nats."""

    gamma: float = 2.0
    needs = frozenset({"logits"})

    def __call__(self, outputs: losses.Outputs) -> losses.PerToken:
        log_q = outputs.target_logits() - outputs.log_normalizer()
        return -((1.0 - jnp.exp(log_q)) ** self.gamma) * log_q


@dataclasses.dataclass(frozen=True)
class Certainty(losses.Loss):
    """`max_v q_v`: measured on held-out data, minimised by nobody."""

    needs = frozenset({"logits"})
    unit = "1"

    def __call__(self, outputs: losses.Outputs) -> losses.PerToken:
        return jnp.exp(jnp.max(outputs.logits, axis=-1) - outputs.log_normalizer())


class Bigram(models.Model):
    """Logits of the next token from the token alone."""

    def __init__(self, *, vocab_size: int, dim: int = 16, rngs: nnx.Rngs):
        self.dim, self.num_outputs = dim, vocab_size

        def table(names):
            return sharding.parameter(
                models.Normal(stddev=0.1),
                rngs,
                (vocab_size, dim),
                axes=names,
                dtype="float32",
            )

        self.embedding, self.output = table((None, None)), table((None, None))

    def trunk(self, batch, *, capture=frozenset(), remat="none"):
        hidden = self.embedding.get_value()[batch["tokens"]]
        return models.TrunkOutput(hidden=hidden, intermediates={})

    def head(self, hidden: jax.Array) -> jax.Array:
        return hidden @ self.output.get_value().T

    def offers(self) -> frozenset[str]:
        return frozenset()


@dataclasses.dataclass(frozen=True)
class Counting(data.Documents):
    """Numbers, written out."""

    num_documents: int

    def check(self) -> None:
        """Nothing can be missing."""

    def __iter__(self):
        for i in range(self.num_documents):
            text = " ".join(str(i * 7 + j) for j in range(60))
            yield data.Document(name=str(i), text=text)


@dataclasses.dataclass(frozen=True)
class Numbers(data.DataSource):
    """Numbers as rows of tokens."""

    num_documents: int = 60

    def check(self) -> None:
        """Nothing can be missing."""

    def load(self, *, cache: str = "") -> data.Dataset:
        documents = Counting(self.num_documents)
        return data.TokenizedText(
            documents=documents,
            tokenizer=data.ByteBPE(documents=documents, vocab_size=270),
            sequence_length=16,
        ).load(cache=cache)


def halving(peak: float, every: int) -> optax.Schedule:
    """A learning rate that halves at regular steps."""
    return lambda step: peak * 0.5 ** jnp.floor_divide(step, every)


def momentum(learning_rate, decay: float = 0.5) -> optax.GradientTransformation:
    """Gradient descent with momentum."""
    return optax.chain(optax.trace(decay), optax.scale_by_learning_rate(learning_rate))


def odd_targets(batch) -> jax.Array:
    """A mask of the targets with an odd id."""
    return batch["mask"] & (batch["targets"] % 2 == 1)
