"""Evaluation beside training: tokens a second of processor time.

    make bench ONLY=evaluation

The student of `configs/dense.py` and of `configs/moe.py`, float32, 4,096 tokens at a
time: four training steps of 8 rows, and one batch of 32 held-out rows with all metrics
of an evaluation, reading it included. Medians of 7 rounds in turn (min - max). By FLOPs
it is 3.0; target: 3.2.
"""

import os

import fiddle as fdl

from configs import dense, moe
from runner import runtime
from runner.machine import heap, schedule
from tests.benchmarks import timed_step

ROUNDS, STEPS, TARGET = 7, 4, 3.2


def main() -> None:
    """Time both of each config in turn."""
    heap.keep_pages()
    schedule.prefer_memory(os.environ)
    for config in (dense, moe):
        setup = fdl.build(config.config.as_buildable()).prepare(runtime.Runtime())
        training = timed_step.TimedStep(setup)
        evaluator = setup.evaluators["held_out"]
        assert evaluator.batch_size == STEPS * setup.batch_size
        state = setup.initial_state()
        forms = {
            "training": lambda step=training: step.run(STEPS),
            "evaluation": lambda call=evaluator, of=state: call(of, limit=1),
        }
        for run in forms.values():
            run()
        times = timed_step.in_turn(forms, ROUNDS)
        ratios = timed_step.ratios(times["training"], times["evaluation"])
        name = config.__name__.removeprefix("configs.")
        print(f"{name:<8}{timed_step.spread(ratios)}, target {TARGET}")


if __name__ == "__main__":
    main()
