"""Step rules: what becomes of an update between the optimiser and the weights.

    optimizer=runner.step_rules.ruled(
        runner.optimizers.adamw(1e-3),
        {"radius": runner.step_rules.ConvergenceRadius(rows=8)},
    )

A rule sees the updates of the whole step, the objective on its batch and the slopes of
the logits along any direction. Its numbers are logged as `optimizer/<name>/...`.
"""

from runner.step_rules.base import StepRule, StepRuleContext
from runner.step_rules.distance import WeightDistance
from runner.step_rules.natural_merge import natural_merge
from runner.step_rules.radius import ConvergenceRadius
from runner.step_rules.ruled import ruled
from runner.step_rules.widths import ByWidth, IndependentDecay

__all__ = [
    "ByWidth",
    "ConvergenceRadius",
    "IndependentDecay",
    "StepRule",
    "StepRuleContext",
    "WeightDistance",
    "natural_merge",
    "ruled",
]
