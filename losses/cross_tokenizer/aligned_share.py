"""Share of a text that two tokenizers cut alike: a metric, for a term of weight 0."""

import dataclasses
from typing import Literal, get_args

import jax.numpy as jnp

from losses.core.checks import check_choice
from losses.core.loss import Loss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken
from losses.cross_tokenizer.spans import SPANS

Measure = Literal["aligned", "starts"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignedShare(Loss):
    """The share of the student's targets that a teacher of another tokenizer reaches.

    * `aligned`: targets in a span that tokens of both sides begin and end with.
    * `starts`: targets that such a span begins with, which are those that terms count
      where they read the teacher: spans a token.

    Attributes:
      measure: what is counted.

    Raises:
      ValueError: there is no such measure.
    """

    measure: Measure = "aligned"

    needs = frozenset()
    unit = "1"

    def __post_init__(self):
        check_choice("measure", self.measure, get_args(Measure))

    def __call__(self, outputs: Outputs) -> PerToken:
        name = SPANS if self.measure == "aligned" else "teacher/known"
        if SPANS not in outputs.batch:
            raise IncompatibleLoss(
                "AlignedShare reads the spans of a teacher of another tokenizer "
                "(teacher=runner.Aligned(...)), and there are none"
            )
        return (outputs.batch[name] > 0).astype(jnp.float32)
