"""What is logged, and the speed beside it."""

import json

import jax.numpy as jnp
import pytest

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
                "learning/ce": mean,
                "speed/steps_per_second": 4.0,
                "speed/tokens_per_second": 4096.0,
                "speed/mfu": 0.5,
                "speed/waiting_for_data": 0.25,
            },
        )
        for step, mean in ((2, 1.5), (4, 3.5), (5, 5.0))
    ]


STEPS = [  # sum and count of `ce`, and a metric that is no average
    (6.0, 2.0, 1.0),
    (0.0, 0.0, 3.0),
    (1.0, 8.0, 5.0),
    (9.0, 3.0, 7.0),
    (4.0, 4.0, 8.0),
]


def written(log, steps):
    """Run `log` over some steps; return what it writes but for the speed."""
    for step in steps:
        total, count, norm = STEPS[step - 1]
        metrics = {"counts/ce": count, "optimizer/gradient_norm": norm}
        if count:
            metrics["learning/ce"] = total / count
        log(step, metrics=metrics)
    return [
        (step, {name: x for name, x in row.items() if not name.startswith("speed/")})
        for step, row in log._writer.scalars
    ]


def rows_of(*windows):
    """The sums over sums, and the means, of some runs of steps."""
    return [
        (
            last,
            {
                "learning/ce": sum(x[0] for x in steps) / sum(x[1] for x in steps),
                "counts/ce": sum(x[1] for x in steps) / len(steps),
                "optimizer/gradient_norm": sum(x[2] for x in steps) / len(steps),
            },
        )
        for first, last in windows
        for steps in [STEPS[first:last]]
    ]


def test_a_line_is_the_mean_since_the_last_line():
    log = Log(context(loop={"log_every": 3}, num_steps=5))
    for row, expected in zip(
        written(log, range(1, 6)), rows_of((0, 3), (3, 5)), strict=True
    ):
        assert row[0] == expected[0]
        assert row[1] == pytest.approx(expected[1])


@pytest.mark.parametrize("stopped", [1, 2, 3, 4])
def test_a_resumed_run_writes_the_lines_of_a_whole_one(stopped):
    whole = Log(context(loop={"log_every": 3}, num_steps=5))
    first = Log(context(loop={"log_every": 3}, num_steps=5))
    rows = written(first, range(1, stopped + 1))
    rest = Log(context(loop={"log_every": 3}, num_steps=5, start=stopped))
    rest.recall(json.loads(json.dumps(first.memory())))
    assert rows + written(rest, range(stopped + 1, 6)) == written(whole, range(1, 6))


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
