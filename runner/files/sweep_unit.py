"""Place of a run among the units of a sweep, told by the environment.

So that a unit, which is a process of its own, draws the bar of the whole sweep.
"""

import os
from typing import NamedTuple

from runner.files.printable import printable

_VARIABLE = "RETORT_UNIT"


class Place(NamedTuple):
    """Unit `number`, from 1, of `among`, and what it differs in."""

    number: int
    among: int
    label: str


def environment(place: Place) -> dict[str, str]:
    """Return the environment of a process that is to know its place."""
    return {
        **os.environ,
        _VARIABLE: f"{place.number}/{place.among} {printable(place.label)}",
    }


def read() -> Place | None:
    """Return the place of this process; None outside of a sweep."""
    count, _, label = os.environ.get(_VARIABLE, "").partition(" ")
    number, _, among = count.partition("/")
    if not (number.isdecimal() and among.isdecimal()):
        return None
    place = Place(int(number), int(among), label)
    return place if 0 < place.number <= place.among else None
