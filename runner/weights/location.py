"""The place of a model: a work directory, a published folder or a `.gguf` file."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.errors import UserError
from runner.weights import opening
from runner.weights.base import Weights
from runner.weights.run import RunWeights

BEST = "best"


@dataclasses.dataclass(frozen=True)
class Location:
    """Weights in files.

    Attributes:
      path: Of a work directory of ours, a Hugging Face folder, or a `.gguf` file.
      step: Of a work directory: a step, `"best"`, or `""` for the newest checkpoint.
    """

    path: str
    step: str = ""

    def __str__(self) -> str:
        return f"{self.path}@{self.step}" if self.step else self.path


def parse(text: str) -> Location:
    """Return the location that a text names, `PATH` or `PATH@STEP`.

    Raises:
      UserError: What follows the `@` is no step.
    """
    path, at, step = text.rpartition("@")
    if not at or Path(text).expanduser().exists():
        return Location(text)
    if step != BEST and not (step.isascii() and step.isdecimal()):
        raise UserError(f"{text}: '{step}' is no step; a number, or {BEST}")
    return Location(path, step)


def check(where: Location) -> None:
    """Refuse a place without weights; no array is read.

    Raises:
      UserError: There are none, or they have no steps.
    """
    kind = opening.find(where.path)
    if where.step and kind is not RunWeights:
        raise UserError(f"{where}: only a run of ours has steps")


def open_at(where: Location, settings: Mapping[str, Any] | None = None) -> Weights:
    """Return the weights at a location.

    Raises:
      UserError: There are none, or they are damaged.
    """
    check(where)
    if not where.step:
        return opening.open_weights(where.path, settings)
    if settings:
        raise UserError(f"settings are of published models; {where.path} is a run")
    from runner.checkpoint.choice import best_step

    step = best_step(where.path) if where.step == BEST else int(where.step)
    return RunWeights(where.path, step)
