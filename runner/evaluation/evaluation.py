"""An evaluation on held-out data, as a graph declares it."""

import dataclasses
from collections.abc import Sequence

from losses import Loss
from runner.data.source import DataSource
from runner.evaluation import own_metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The student's predictions on some data: of next tokens, of the classes of images.

    Its metrics:

    * `loss`: nats per target, `-log q(y)`; of series, the mean absolute error of the
      hidden numbers, and the next three are not there.
    * `perplexity`: the exponential of the loss.
    * `bits_per_byte`: per UTF-8 byte of the documents' text, if the data is text.
    * `accuracy`: share of targets that are the most probable output.
    * `calibration_error`: `Σ_b n_b/N |accuracy_b - confidence_b|` over 15 equal bins
      of the top probability (Guo et al. 2017, arXiv:1706.04599, eq. 3).
    * `terms/<term>`: every loss of the graph, unweighted, a mean over the tokens that
      the term counts. One that wants means over the batch (load balance) has those of
      each batch here. One that reads records which do not cover this data is left out.
    * `metrics/<name>`: every one of `metrics`, a mean over the tokens of its mask.
    * `kl`: `KL(p‖q)` from the teacher to the student, nats per target at temperature 1,
      where a term reads the teacher's distribution; of stored entries with one for the
      rest, a lower bound, and of draws an estimate.
    * `agreement`: share of targets where both have the same most probable output.
    * `gap_closed`: of all rows, `(l_0 - l) / (l_0 - l_teacher)` of the losses, l_0 that
      before the first step, where the teacher's is below l_0.
    * `teacher/...`: the same of the teacher, where it is a model and a term reads its
      distribution; of the terms, those that read logits alone.
    * `share`: of the rows that were read. Only an evaluation of all rows, 1, counts as
      a result; others are points of a curve.

    An evaluation costs the forward pass of the student over its rows, with its head,
    its intermediates and the losses, and that of the teacher where a term reads it.

    Attributes:
      name: The group of its metrics, as in `<name>/loss`.
      data: The held-out data. `data.OnPolicy` of it is the student going on with its
        prompts: `teacher/loss` is then the teacher's word on what the student writes,
        and `loss` about the student's entropy. Draws are the same at every step.
      batch_size: Rows in a global batch, over all devices.
      metrics: Losses to measure beside the terms; see `own_metrics`.
      average: The name of an average of the weights that stands in their place
        (`runner.averages`); "" for the weights themselves.

    Raises:
      ValueError: `batch_size` is below 1, `name` no identifier, or two metrics have one
        name.
    """

    name: str
    data: DataSource
    batch_size: int
    metrics: Sequence[Loss] = ()
    average: str = ""

    def __post_init__(self):
        if not self.name.isidentifier():  # `<name>/loss`, `evaluations.<name>`
            raise ValueError(f"name must be an identifier, got {self.name!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        own_metrics.terms(self.metrics)
