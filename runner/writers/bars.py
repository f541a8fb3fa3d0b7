"""A bar in words: a count, how much of it is done, and the parts of a text."""

from collections.abc import Mapping
from typing import NamedTuple

PARTS = "  "
"""Between two parts of a line."""


class Bar(NamedTuple):
    """A bar between two texts: `180/400 ━━━━━━╸━━━━━━━  45%  loss 4.512`.

    Attributes:
      head: What it counts.
      fraction: Of it that is done.
      text: Parts, of which those at the end are dropped where there is no room.
    """

    head: str
    fraction: float
    text: str

    def __str__(self) -> str:
        return f"{self.head}{PARTS}{self.text}"


def step_bar(
    step: int,
    num_steps: int,
    *,
    values: Mapping[str, float],
    speed: str = "",
    time_left: str = "",
) -> Bar:
    """Return `180/400`, its fraction, `45%  loss 4.5  26.1k tokens/s  1:23 left`."""
    parts = [numbers(values), speed, time_left]
    fraction = step / max(num_steps, 1)
    return Bar(
        f"{step:>{len(str(num_steps))}}/{num_steps}",
        fraction,
        PARTS.join([percent(fraction), *filter(None, parts)]),
    )


def percent(fraction: float) -> str:
    """Return ` 45%`, never 100% of what is not done."""
    return f"{int(100 * fraction + 1e-9):>3}%"


def numbers(values: Mapping[str, float]) -> str:
    """`loss 4.512  lr 3.000e-4`: each to four digits."""
    return PARTS.join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: float) -> str:
    if 0 < abs(value) < 1e-3:
        return f"{value:.3e}".replace("e-0", "e-")
    return f"{value:#.4g}"
