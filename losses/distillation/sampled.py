"""Reverse KL from the tokens that the student drew: of each, and of sequences."""

import dataclasses
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from losses.core.checks import check_choice
from losses.core.loss import Loss
from losses.core.masks import own_mask
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken, RecordSpec
from losses.core.tiles import Tile
from losses.core.vocab_sums import TiledOutputs
from losses.distillation.alignment import teacher_of
from losses.distillation.divergence import check_temperature
from losses.distillation.kl import ReverseKL
from losses.functional import log_probs, sampled, vocabulary

Estimator = Literal["k1", "k2", "k3"]
Over = Literal["mean", "sum"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledReverseKL(Loss):
    """`KL(q‖p)` estimated from the target y alone, nats, where y is a draw from q.

    With `l = log q_y - log p_y`, p the teacher and q the student:

    * `k1`: `l`. Unbiased. Its own derivative is 0 on average, so its gradient is that
      of the score: `l ∇ log q_y`, unbiased for the gradient of `KL(q‖p)`.
    * `k2`: `l² / 2`. Biased, at least 0; its gradient is the same as that of `k1`.
    * `k3`: `exp(-l) - 1 + l`. Unbiased, at least 0; its gradient is on average that of
      the forward `KL(p‖q)`.

    Read on rows that the student wrote (`data.OnPolicy` without `top_k` and `top_p`,
    at this temperature), with `mask=losses.own_mask` where there are others.
    `ReverseKL` is the same without the draw's noise where the teacher's whole logits
    are at hand.

    Source: Schulman 2020, "Approximating KL divergence"; gradients: Tang and Munos 2025
    (arXiv:2506.09477), section 3.

    Attributes:
      estimator: the form.
      temperature: T of both sides.

    Raises:
      ValueError: there is no such estimator, or the temperature is not positive.
    """

    estimator: Estimator = "k1"
    temperature: float = 1.0

    needs = frozenset({"logits", "teacher/logits"})

    def __post_init__(self):
        check_temperature(self.temperature)
        check_choice("estimator", self.estimator, get_args(Estimator))

    def check_records(self, stored: RecordSpec) -> None:
        if stored.mode != "full":
            contents = "draws" if stored.mode == "sampled" else "its best entries"
            raise ValueError(
                "SampledReverseKL wants the teacher's probability of every target, and "
                f"the records hold {contents}"
            )

    def __call__(self, outputs: Outputs) -> PerToken:
        logits = teacher_of(outputs).logits
        if logits is None or teacher_of(outputs).indices is not None:
            raise IncompatibleLoss("SampledReverseKL wants the teacher's whole logits")
        targets = outputs.batch["targets"]
        if logits.shape[-1] != outputs.num_outputs:  # both over the ids that both have
            return sampled.sampled_reverse_kl(
                outputs.logits,
                logits,
                targets,
                self.temperature,
                estimator=self.estimator,
            )
        teacher_score = vocabulary.target_logits(logits, targets) / self.temperature
        log_p = teacher_score - vocabulary.log_normalizer(logits, self.temperature)
        log_q = outputs.target_logits() / self.temperature
        return self._estimate(log_q - outputs.log_normalizer(self.temperature), log_p)

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        teacher, student = outputs.both(self.temperature)
        targets = outputs.batch["targets"][..., None]

        def at_target(tile: Tile) -> PerToken:
            is_target = jnp.broadcast_to(tile.entries, tile.student.shape) == targets
            scores = jnp.where(is_target, teacher.scores(tile), 0.0)
            return jnp.sum(scores, axis=-1)

        log_p = outputs.total(at_target) - outputs.normalizer_of(teacher)
        log_q = outputs.target_logits() / self.temperature
        return self._estimate(log_q - outputs.normalizer_of(student), log_p)

    def _estimate(self, log_q: PerToken, log_p: PerToken) -> PerToken:
        return sampled.estimate(
            log_probs.floored(log_q), log_probs.floored(log_p), self.estimator
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiniLLM(Loss):
    """`KL(q_t‖p_t)`, nats, whose gradient has the rest of the sequence too.

    The gradient at token t of a sequence y that the student wrote is that of

    `KL(q_t‖p_t) - w R_t log q_t(y_t)`

    with R_t, the mean of `log p_s(y_s)/q_s(y_s)` over the tokens s after t, a constant:
    what a token leads to counts, besides what it is. Without the clipping of ratios,
    which are 1 where each row is learnt once, by the weights that wrote it. The
    pretraining term is a `CrossEntropy` beside it.

    A row is one sequence, of the targets that count: those of `data.OnPolicy`, drawn at
    temperature 1 from all tokens.

    Where the teacher wrote too (`data.OnPolicy(teacher_share=α)`), token t was drawn
    from `p̃_t = α p_t + (1 - α) q_t`, and its value is multiplied by the constant

    `w_t = q_t(y_t) / p̃_t(y_t)`, at most `1/(1 - α)` at temperature 1:

    q_t the student that learns, `p̃_t(y_t)` as it was when the token was drawn. The
    exact weight of an unbiased gradient is `Π_{s ≤ t} w_s`, times `Π_{s > t} w_s` for
    what is in R_t; the paper takes the last factor alone, for its variance.

    Source: Gu et al. 2023, MiniLLM (arXiv:2306.08543), section 2.2: single-step
    decomposition, sampling mixed with the teacher and length normalization, whose
    `1/(T - t - 1)` is of T - t terms there; here it is their mean.

    Attributes:
      long_term: w; 0 leaves `ReverseKL`.
      over: R is the mean of the tokens that follow, or their sum, with which the
        expected gradient is that of the KL of whole sequences.

    Raises:
      ValueError: `over` is no choice, or `long_term` is negative or not finite.
    """

    long_term: float = 1.0
    over: Over = "mean"

    needs = frozenset({"logits", "teacher/logits"})
    scope = "sequence"
    default_mask = staticmethod(own_mask)
    tiled = False

    def __post_init__(self):
        check_choice("over", self.over, get_args(Over))
        if self.long_term < 0:
            raise ValueError(f"long_term must not be negative, got {self.long_term}")
        if not math.isfinite(self.long_term):
            raise ValueError(f"long_term must be finite, got {self.long_term}")

    def check_records(self, stored: RecordSpec) -> None:
        if stored.mode != "full":
            raise ValueError(
                "MiniLLM wants a live teacher of the student's vocabulary: its whole "
                "logits over rows that the student wrote"
            )

    def __call__(self, outputs: Outputs) -> PerToken:
        return self._weight(outputs) * self._unweighted(outputs)

    def _weight(self, outputs: Outputs) -> PerToken:
        """Return `q_y / p̃_y`, a constant; 1 of what the student drew alone."""
        drawn = outputs.batch.get("own_log_probability")
        if drawn is None:
            return jnp.ones(outputs.batch["targets"].shape, jnp.float32)
        log_q = outputs.target_logits() - outputs.log_normalizer()
        return sampled.importance(log_q, drawn)

    def _unweighted(self, outputs: Outputs) -> PerToken:
        single = ReverseKL()(outputs)
        if self.long_term == 0.0:
            return single
        gaps = jax.lax.stop_gradient(SampledReverseKL()(outputs))
        mask = jnp.ones(gaps.shape, bool) if outputs.mask is None else outputs.mask
        rows = (gaps.shape[0], -1)
        follows = sampled.of_followers(
            gaps.reshape(rows), mask.reshape(rows), over=self.over
        )
        score = outputs.target_logits() - outputs.log_normalizer()
        weights = self.long_term * follows.reshape(gaps.shape)
        return single + sampled.score_gradient(weights, score)
