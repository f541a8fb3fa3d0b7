"""Graphs over the ranks of logits: what occurs together along a sequence (GLD)."""

import dataclasses
from typing import Literal

import jax

from losses.core.checks import check_choice
from losses.core.loss import Loss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken, RecordSpec
from losses.distillation.alignment import teacher_of
from losses.functional import logit_distances


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitGraph(Loss):
    """`1/k Σ_i |f_C(i) - f_D(i)|` of two graphs, both f sorted; a value a sequence.

        C = 1/T Σ_t z_t z_tᵀ        f_C(i) = 1/k Σ_j C_ij

    z_t `[k]` are the k best log-probabilities of token t, in descending order: the
    nodes of the graph C are ranks, D is the teacher's. It bounds the Gromov-Wasserstein
    distance of the two graphs from below and costs a sort: no graph is made, as
    `f_C = 1/(kT) Σ_t z_t (1ᵀ z_t)`. It compares ranks, never ids: any vocabulary will
    do for the teacher, and graphs that differ may have the same f. Log-probabilities do
    not move with a constant in the logits; `scores="logits"` are those of the source,
    which do, and which no records hold.

    T are the counted tokens of a row; rows weigh by them.

    Source: Wang et al. 2025, InfiGFusion (arXiv:2505.13893), its graph on logits.

    Attributes:
      best: k.
      scores: z: `"log_probabilities"`, or raw `"logits"`.

    Raises:
      ValueError: k is below 1, or there are no such scores.
    """

    best: int = 10
    scores: Literal["log_probabilities", "logits"] = "log_probabilities"
    needs = frozenset({"logits", "teacher/logits"})
    scope = "sequence"
    tiled = False
    unit = "nats²"

    def __post_init__(self):
        if self.best < 1:
            raise ValueError(f"best must be at least 1, got {self.best}")
        check_choice("scores", self.scores, ("log_probabilities", "logits"))

    def check_records(self, stored: RecordSpec) -> None:
        if stored.mode == "sampled":
            raise ValueError(
                "LogitGraph wants the teacher's best entries, and the records hold "
                "draws"
            )
        if self.scores == "logits":
            raise ValueError(
                "LogitGraph(scores='logits') wants a model for a teacher: records hold "
                "logits up to a constant a token"
            )
        if stored.mode == "top_k":
            stored.require_temperature(1.0, "LogitGraph")

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher = teacher_of(outputs)
        if teacher.logits is None:
            raise ValueError("LogitGraph wants the teacher's logits, it gives draws")
        student, log_p = outputs.logits, teacher.logits
        if self.scores == "log_probabilities":
            student = student - outputs.log_normalizer()[..., None]
            log_p = log_p - teacher.log_normalizer()[..., None]
        width = min(student.shape[-1], log_p.shape[-1])
        if width < self.best:
            raise IncompatibleLoss(
                f"LogitGraph: best={self.best}, and student and teacher both have "
                f"{width} entries at most"
            )
        ours, theirs = (jax.lax.top_k(x, self.best)[0] for x in (student, log_p))
        return logit_distances.graph_distance(ours, theirs, outputs.mask)
