"""Averages of the weights over steps, kept beside the optimiser's state.

    optimizer=runner.averages.averaged(
        runner.optimizers.adamw(1e-3), {"ema": runner.averages.EMA(decay=0.999)}
    )

An average is part of the train state: float32, sharded as the weights are, saved and
resumed bit for bit. It changes nothing of the training. An evaluation measures it
(`Evaluation(average="ema")`), and `runner-export --average=ema` writes it out.
"""

from runner.averages.averaged import averaged, student
from runner.averages.rules import EMA, Average, MeanFrom, MeanOfLast

__all__ = ["EMA", "Average", "MeanFrom", "MeanOfLast", "averaged", "student"]
