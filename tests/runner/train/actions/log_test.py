"""What is logged, and the speed beside it."""

import jax.numpy as jnp

from runner.train.actions.evaluate import Evaluate
from runner.train.actions.log import Log
from runner.writers.stopwatch import Stopwatch
from tests.runner.train.contexts import Clock, context


def test_due_metrics_are_written_with_the_speed_since_the_last():
    clock = Clock()
    stopwatch = Stopwatch(now=clock)
    run = context(
        loop={"log_every": 2}, num_steps=5, stopwatch=stopwatch, units_per_step=1024
    )
    log = Log(run, step_over_peak_flops=3e9 / 24e9)
    for step in range(1, 6):
        with stopwatch.waiting():
            clock.seconds += 30.0 if step == 1 else 0.0625
        clock.seconds += 30.0 if step == 1 else 0.1875  # The first one is compiled.
        log(step, metrics={"learning/ce": float(step)})
    assert run.writer.scalars == [
        (
            step,
            {
                "learning/ce": float(step),
                "speed/steps_per_second": 4.0,
                "speed/tokens_per_second": 4096.0,
                "speed/mfu": 0.5,
                "speed/waiting_for_data": 0.25,
            },
        )
        for step in (2, 4, 5)
    ]


def test_the_first_step_has_no_speed():
    clock = Clock()
    run = context(
        loop={"log_every": 1},
        num_steps=2,
        stopwatch=Stopwatch(now=clock),
        units_per_step=8,
    )
    log = Log(run)
    for step in (1, 2):
        clock.seconds += 0.5
        log(step, metrics={})
    assert run.writer.scalars[0] == (1, {})
    assert run.writer.scalars[1][1]["speed/tokens_per_second"] == 16.0


def test_pauses_do_not_slow_the_logged_speed():
    clock = Clock()
    stopwatch = Stopwatch(now=clock)

    def held_out(state):
        clock.seconds += 30.0
        with stopwatch.paused("inner"):  # A pause within a pause counts once.
            clock.seconds += 30.0
        return {"loss": state}

    run = context(
        loop={"log_every": 2, "evaluate_every": 3},
        stopwatch=stopwatch,
        evaluations={"held_out": held_out},
    )
    log, evaluation = Log(run), Evaluate(run)
    for step in range(1, 5):
        clock.seconds += 0.5
        log(step, metrics={})
        evaluation(step, state=jnp.float32(2.5))
    speeds = {f"speed/{x}_per_second" for x in ("steps", "tokens")}
    speeds |= {"speed/waiting_for_data"}
    scalars = run.writer.scalars
    assert [(step, set(values)) for step, values in scalars] == [
        (2, speeds),
        (3, {"held_out/loss"}),
        (4, speeds),
    ]
    assert [scalars[i][1]["speed/steps_per_second"] for i in (0, 2)] == [2, 2]
    assert run.results.evaluations == {"held_out": {"loss": 2.5}}
