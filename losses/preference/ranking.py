"""Ranking of a target before other outputs: a loss of pairs, and metrics of ranks."""

import dataclasses

import jax.numpy as jnp

from losses.core.columns import column
from losses.core.loss import Loss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken, none_of
from losses.functional import preference


@dataclasses.dataclass(frozen=True, kw_only=True)
class BPR(Loss):
    """`log(1 + exp(s_n - s_y))`, nats, of the target y and an output n that is none.

    Bayesian personalized ranking of implicit feedback: y was chosen by a user, n was
    not. A row's pair in two segments is `BradleyTerry`; here one row may hold many
    targets beside their n (`data.Interactions`).

    Source: Rendle et al. 2009 (arXiv:1205.2618), section 4.1, without its prior, which
    is the optimizer's decay.

    Attributes:
      negative: entry of the batch with the ids n, of rows or of tokens.
    """

    negative: str = "negatives"
    needs = frozenset({"logits"})
    tiled = True

    def __call__(self, outputs: Outputs) -> PerToken:
        ids = column(outputs.batch, self.negative).astype(jnp.int32)
        at_negative = outputs.logits_at(ids[..., None])[..., 0]
        return preference.bpr(outputs.target_logits(), at_negative)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfRank(Loss, abstract=True):
    best: int = 20
    excluded: str | None = None
    needs = frozenset({"logits"})
    tiled = False
    unit = "1"

    def __post_init__(self):
        if self.best < 1:
            raise ValueError(f"best must be at least 1, got {self.best}")

    def _rank(self, outputs: Outputs) -> PerToken:
        logits, among = outputs.logits, None
        if self.excluded is not None:
            if self.excluded not in outputs.batch:
                raise IncompatibleLoss(f"the rows have no lists {self.excluded!r}")
            ids = outputs.batch[self.excluded]
            among = none_of(jnp.where(ids < 0, logits.shape[-1], ids), logits.shape)
        return preference.rank(logits, outputs.batch["targets"], among)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecallAt(_OfRank):
    """1 where the target is among the best outputs; its mean is Recall@k.

    A metric: it has no gradient. A target's rank counts all others that score no less.
    The mean is over targets: of users, where as many of each were held out.

    Attributes:
      best: k.
      excluded: entry of the batch with outputs that do not count, `[*b n]`, -1 at the
        end of fewer: what a user chose in training (`"seen"` of `data.Interactions`).

    Raises:
      ValueError: k is below 1.
    """

    def __call__(self, outputs: Outputs) -> PerToken:
        return (self._rank(outputs) <= self.best).astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NDCGAt(_OfRank):
    """`1 / log2(1 + rank)` of a target among the best outputs, else 0: NDCG@k.

    That of a user of whom one target was held out. A metric: it has no gradient.

    Attributes:
      best: as of `RecallAt`.
      excluded: likewise.

    Raises:
      ValueError: k is below 1.
    """

    def __call__(self, outputs: Outputs) -> PerToken:
        rank = self._rank(outputs)
        return jnp.where(rank <= self.best, 1.0 / jnp.log2(1.0 + rank), 0.0)
