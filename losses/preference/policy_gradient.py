"""Policy gradient of verifiable rewards, over rows that the student writes (GRPO)."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.columns import column
from losses.core.loss import Loss
from losses.core.masks import own_mask
from losses.core.of_means import Means
from losses.core.of_rows import PLACE
from losses.core.outputs import Batch, IncompatibleLoss, Outputs, PerToken
from losses.distillation.divergence import check_temperature
from losses.functional.sampled import clipped_policy_gradient, group_advantages

Reward = Callable[[Batch], Float[Array, " b"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaysAnswer:
    """A reward: 1 for a row that the student wrote the id of its answer in, else 0.

    Attributes:
      column: of the rows' answers, an id each (`data.Columns`).
    """

    column: str

    def __call__(self, batch: Batch) -> Float[Array, " b"]:
        says = own_mask(batch) & (batch["targets"] == column(batch, self.column))
        return jnp.any(says.reshape((len(says), -1)), axis=1).astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicyGradient(Loss):
    """`-min(ρ A, clip(ρ, 1 - ε, 1 + ε) A)` at a token, `ρ = q_y / q_y^drawn`.

        A = (r - mean r) / (stddev r + eps)    over the `group` rows of one prompt

    r is the reward of the row, stddev that of `group - 1` degrees of freedom; a group
    of equal rewards teaches nothing. y was drawn with probability q^drawn: where the
    data holds none, by the weights that learn, so that ρ is 1 and the gradient that of
    `-A log q_y`. The mean is over the tokens of all rows, as in its released code.

    Over `data.OnPolicy(group=...)`, which writes the rows of a prompt side by side;
    rows that it did not write have no part in the term. Its `top_k` and `top_p` must be
    left out, since q is of the whole softmax, and its `temperature` and `group` must be
    these. Rewards of all devices and microbatches are compared. Beside it in the
    source, at a weight of 1e-3 each: `SampledReverseKL(estimator="k3")` with
    `runner.StartTeacher` for the reference, and `ConfidencePenalty()`, whose value is
    minus the entropy.

    On the same log-probabilities it is the loss of TRL 1.16.0 of type `"bnpo"` and
    `"dapo"`, which add 1e-4 to the deviation (`eps`); `"grpo"` is a mean of rows' means
    there, `"dr_grpo"` one over rows as if all were as long as they may be.

    Source: Wang et al. 2025, one training example (arXiv:2504.20571), eq. 1 to 3, and
    its released code; Shao et al. 2024, GRPO (arXiv:2402.03300), eq. 3.

    Attributes:
      reward: of a batch, float `[b]`: any function of its tokens and columns.
      group: rows of one prompt.
      clip: ε.
      temperature: of the draws, `data.OnPolicy(temperature=...)`.
      eps: added to the deviation.
      drawn: entry of the batch with log q^drawn, `[*b]`, nats.

    Raises:
      ValueError: `reward` is no function, `group` is below 2, or a number not positive.
    """

    reward: Reward
    group: int = 8
    clip: float = 0.2
    temperature: float = 1.0
    eps: float = 1e-6
    drawn: str = "own_log_probability"

    needs = frozenset({"logits"})
    scope = "sequence"
    default_mask = staticmethod(own_mask)
    reads_rows = True
    unit = "1"

    def __post_init__(self):
        check_temperature(self.temperature)
        if not callable(self.reward):
            raise ValueError(
                f"reward must be a function of a batch, got {self.reward!r}"
            )
        if self.group < 2:
            raise ValueError(f"group must be at least 2, got {self.group}")
        for name in ("clip", "eps"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def statistic_sums(self, outputs: Outputs, tokens: PerToken) -> Means:
        rewards = jnp.asarray(self.reward(outputs.batch), jnp.float32)
        if rewards.shape != tokens.shape[:1]:
            raise IncompatibleLoss(
                f"reward of PolicyGradient must give a number a row, "
                f"{list(tokens.shape[:1])}, got {list(rewards.shape)}"
            )
        if outputs.num_rows % self.group:
            raise IncompatibleLoss(
                f"PolicyGradient: group={self.group} does not divide the "
                f"{outputs.num_rows} rows of a batch"
            )
        place = outputs.batch[PLACE].reshape((len(rewards), -1))[:, 0]
        there = jnp.any(tokens.reshape((len(rewards), -1)) > 0.0, axis=1)
        there = there.astype(jnp.float32)
        empty = jnp.zeros((outputs.num_rows,), jnp.float32)
        rewards = jnp.where(there > 0.0, rewards, 0.0)
        return {
            "reward": empty.at[place].add(rewards),
            "there": empty.at[place].add(there),
        }

    def settled(self, means: Means) -> Means:
        """Return the advantages, `[B]`, by the places of the rows: taken once."""
        return {"advantage": self._advantages(means)}

    def _advantages(self, means: Means) -> Float[Array, " B"]:
        if "advantage" in means:
            return means["advantage"]
        there = means["there"] > 0.0
        rewards = means["reward"] / jnp.where(there, means["there"], 1.0)
        return group_advantages(rewards, there, group=self.group, eps=self.eps)

    def __call__(self, outputs: Outputs) -> PerToken:
        log_q = outputs.target_logits() / self.temperature
        log_q = log_q - outputs.log_normalizer(self.temperature)
        place = outputs.batch[PLACE]
        return clipped_policy_gradient(
            log_q,
            self._advantages(outputs.statistics)[place],
            outputs.batch.get(self.drawn),
            clip=self.clip,
        )
