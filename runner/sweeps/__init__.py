"""Sweeps: runs of one config that differ in a few flags, and their results.

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

from runner import lazy_names

_HOMES = {
    "Distribution": "draws",
    "Frozen": "frozen",
    "Point": "points",
    "Unit": "frozen",
    "choice": "draws",
    "freeze": "freezing",
    "inductive_bias": "hypotheses",
    "load": "frozen",
    "log_uniform": "draws",
    "product": "points",
    "random_points": "draws",
    "summarize": "summary",
    "uniform": "draws",
    "values": "points",
    "zipped": "points",
}
_RENAMED = {
    "open": "load",
    "random": "random_points",
    "summarise": "summarize",
}

__getattr__, __all__ = lazy_names.attach(__name__, _HOMES, _RENAMED)
