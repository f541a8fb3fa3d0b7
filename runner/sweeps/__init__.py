"""Sweeps: runs of one config that differ in a few flags, and what came of them.

In the config file, a function that takes nothing and returns the points:

    def lr() -> list[sweeps.Point]:
        return sweeps.product(
            sweeps.values("fdl.optimizer.learning_rate.peak_value", 1e-3, 3e-3, 1e-2),
            sweeps.values("fdl.losses.z_loss.weight", 0.0, 1e-4),
        )

`runner --fdl_config=FILE.py --sweep=lr --workdir=DIR` freezes every point's graph into
a work directory of its own, runs one after another, and writes a table and a picture.
Lists of points can be added with `+`.

Names are imported when they are first used: a config that has a sweep loads as fast
as one that has none.
"""

from typing import TYPE_CHECKING

from runner import lazy_names
from runner.sweeps.draws import Distribution, choice, log_uniform, random, uniform
from runner.sweeps.points import Point, product, values, zipped

if TYPE_CHECKING:
    from runner.sweeps.command import concerns, obey
    from runner.sweeps.failure import forget_failure, note_failure
    from runner.sweeps.freezing import freeze
    from runner.sweeps.frozen import Frozen, Unit, open
    from runner.sweeps.summary import summarise

_HOMES = {
    "Frozen": "frozen",
    "Unit": "frozen",
    "concerns": "command",
    "forget_failure": "failure",
    "freeze": "freezing",
    "note_failure": "failure",
    "obey": "command",
    "open": "frozen",
    "summarise": "summary",
}

__all__ = [
    "Distribution",
    "Frozen",
    "Point",
    "Unit",
    "choice",
    "concerns",
    "forget_failure",
    "freeze",
    "log_uniform",
    "note_failure",
    "obey",
    "open",
    "product",
    "random",
    "summarise",
    "uniform",
    "values",
    "zipped",
]

__getattr__ = lazy_names.names(__name__, _HOMES)
