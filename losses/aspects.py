"""Aspects: yes or no answers about a row beside its class (MaKD)."""

import dataclasses

from losses.core.loss import Loss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken
from losses.functional.scores import aspects


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aspects(Loss):
    """`-1/Q Σ_i (a_i log σ(s_i) + (1 - a_i) log(1 - σ(s_i)))`, nats, of Q answers a.

    The answers are a column of Q probabilities a row, `[b Q]`, from a model that was
    asked Q questions about each (`data.Columns`); the logits are as many. In an
    `OwnHead` these are outputs beside the classes:

        functools.partial(
            losses.OwnHead,
            loss=losses.Aspects(column="aspects"),
            dim=64,
            num_outputs=50,
        )

    Its least value is the mean entropy of the answers. Of images, or other rows of one
    target.

    Source: Lee et al. 2025, multi-aspect KD (arXiv:2501.13341), weight 4 beside
    a cross-entropy; there the student's last layer has the Q outputs too, which a head
    of its own is the same as.

    Attributes:
      column: its name.
    """

    column: str
    needs = frozenset({"logits"})
    tiled = False

    def __call__(self, outputs: Outputs) -> PerToken:
        answers = outputs.batch.get(self.column)
        logits = outputs.logits
        if answers is None or answers.shape != logits.shape:
            has = "none" if answers is None else list(answers.shape)
            raise IncompatibleLoss(
                f"Aspects: column {self.column!r} must have one probability an output, "
                f"{list(logits.shape)}, got {has}"
            )
        return aspects(logits, answers)
