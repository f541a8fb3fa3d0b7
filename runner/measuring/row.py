"""Metrics of one model, a row of the table."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Measured:
    """Metrics of a model on the data of one evaluation.

    Attributes:
      model: Its name.
      evaluation: The name of the evaluation.
      metrics: By name.
    """

    model: str
    evaluation: str
    metrics: Mapping[str, float]
