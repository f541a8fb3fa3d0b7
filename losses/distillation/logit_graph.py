"""Scores by their rank, which any two vocabularies share: graphs (GLD), and tokens."""

import abc
import dataclasses
from typing import Literal

import jax
from jaxtyping import Array, Float

from losses.core.checks import check_choice
from losses.core.loss import Loss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken, RecordSpec
from losses.distillation.alignment import teacher_of
from losses.functional import logit_distances

Ranked = Float[Array, "*b k"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankedLogits(Loss, abstract=True):
    """Base of the distances of z, the k best scores of each token in descending order.

    It compares ranks, never ids: any vocabulary will do for the teacher.
    Log-probabilities do not move with a constant in the logits; `scores="logits"` are
    those of the source, which do, and which no records hold.

    Source: Wang et al. 2025, InfiGFusion (arXiv:2505.13893).

    Attributes:
      best: k.
      scores: z: `"log_probabilities"`, or raw `"logits"`.

    Raises:
      ValueError: k is below 1, or there are no such scores.
    """

    best: int = 10
    scores: Literal["log_probabilities", "logits"] = "log_probabilities"
    needs = frozenset({"logits", "teacher/logits"})
    tiled = False

    def __post_init__(self):
        if self.best < 1:
            raise ValueError(f"best must be at least 1, got {self.best}")
        check_choice("scores", self.scores, ("log_probabilities", "logits"))

    @abc.abstractmethod
    def distance(self, student: Ranked, teacher: Ranked, outputs: Outputs) -> PerToken:
        """Return the distance of both z, `[*b]`."""

    def check_records(self, stored: RecordSpec) -> None:
        name = type(self).__name__
        if stored.mode == "sampled":
            raise ValueError(
                f"{name} wants the teacher's best entries, and the records hold draws"
            )
        if self.scores == "logits":
            raise ValueError(
                f"{name}(scores='logits') wants a model for a teacher: records hold "
                "logits up to a constant a token"
            )
        if stored.mode == "top_k":
            stored.require_temperature(1.0, name)

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher, name = teacher_of(outputs), type(self).__name__
        if teacher.logits is None:
            raise ValueError(f"{name} wants the teacher's logits, it gives draws")
        student, log_p = outputs.logits, teacher.logits
        if self.scores == "log_probabilities":
            student = student - outputs.log_normalizer()[..., None]
            log_p = log_p - teacher.log_normalizer()[..., None]
        width = min(student.shape[-1], log_p.shape[-1])
        if width < self.best:
            raise IncompatibleLoss(
                f"{name}: best={self.best}, and student and teacher both have "
                f"{width} entries at most"
            )
        ours, theirs = (jax.lax.top_k(x, self.best)[0] for x in (student, log_p))
        return self.distance(ours, theirs, outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitGraph(RankedLogits):
    """`1/k Σ_i |f_C(i) - f_D(i)|` of two graphs, both f sorted; a value a sequence.

        C = 1/T Σ_t z_t z_tᵀ        f_C(i) = 1/k Σ_j C_ij

    The nodes of the graph C are ranks, D is the teacher's. It bounds the
    Gromov-Wasserstein distance of the two graphs from below and costs a sort: no graph
    is made, as `f_C = 1/(kT) Σ_t z_t (1ᵀ z_t)`. Graphs that differ may have the same f.

    T are the counted tokens of a row; rows weigh by them.

    Source: as of `RankedLogits`, its graph on logits.
    """

    scope = "sequence"
    unit = "nats²"

    def distance(self, student: Ranked, teacher: Ranked, outputs: Outputs) -> PerToken:
        return logit_distances.graph_distance(student, teacher, outputs.mask)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SortedLogits(RankedLogits):
    """`1/k Σ_i |z^s_i - z^t_i|`, nats: the Wasserstein distance of both z at a token.

    Beside `LogitGraph`, which sees what occurs together along a sequence and not at
    which token.

    Source: as of `RankedLogits`, its distance of sorted logits, a sum over ranks there.
    """

    def distance(self, student: Ranked, teacher: Ranked, outputs: Outputs) -> PerToken:
        return logit_distances.ranked_distance(student, teacher)
