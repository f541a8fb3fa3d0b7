"""Directions in which held-out metrics are better."""

MORE_IS_BETTER = frozenset({"accuracy", "agreement", "gap_closed", "mass_on_best"})
"""By their last names; of all other metrics, less is better."""


def more_is_better(metric: str) -> bool:
    """Return whether a higher value of a metric, `held_out/accuracy`, is better."""
    return metric.rpartition("/")[2] in MORE_IS_BETTER
