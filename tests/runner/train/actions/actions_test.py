"""Periodic actions: when they act, and what they write."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from runner.errors import NotFinite
from runner.train import actions
from runner.writers.base import PartialWriter
from runner.writers.stopwatch import Stopwatch


class Recorder(PartialWriter):
    """A writer that remembers."""

    def __init__(self):
        self.scalars, self.texts, self.flushed = [], [], 0

    def write_scalars(self, step, scalars):
        self.scalars.append((step, dict(scalars)))

    def write_texts(self, step, texts):
        self.texts.append((step, dict(texts)))

    def flush(self):
        self.flushed += 1


class Clock:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def fired(action, steps, **kwargs):
    return [step for step in steps if action(step, **kwargs)]


@pytest.mark.parametrize(
    ("every", "last", "start", "expected"),
    [
        (5, 12, 0, [5, 10, 12]),
        (5, 10, 0, [5, 10]),
        (5, None, 0, [5, 10]),
        (0, 12, 0, [12]),
        (0, None, 0, []),
        (5, 12, 5, [10, 12]),
        (5, 12, 7, [10, 12]),
        (1, 12, 10, [11, 12]),
    ],
)
def test_an_action_is_due_at_multiples_and_at_the_last_step(
    every, last, start, expected
):
    calls = []
    action = actions.Action(calls.append, every=every, last=last, start=start)
    steps = range(start + 1, 13)
    assert [step for step in steps if action.due(step)] == expected
    assert fired(action, steps) == expected == calls


def test_a_skipped_step_is_no_error():
    action = actions.Action(lambda step: None, every=5)
    assert fired(action, [1, 2, 5, 9, 10, 17, 20]) == [5, 10, 20]


def test_nothing_happens_again_at_the_step_a_run_resumes_from():
    action = actions.Action(lambda step: None, every=5, start=10)
    assert not action(10)
    assert not action.force(10)
    assert fired(action, range(11, 16)) == [15]


def test_an_action_acts_once_a_step():
    calls = []
    action = actions.Action(calls.append, every=5, last=7)
    assert action.force(3) and action(5) and action(7)
    assert not action.due(5) and not action(5) and not action.force(7)
    assert calls == [3, 5, 7]


def test_a_negative_period_is_refused():
    with pytest.raises(ValueError, match="every must not be negative, got -1"):
        actions.Action(print, every=-1)


def test_log_writes_due_metrics_with_the_speed_since_the_last():
    clock, writer = Clock(), Recorder()
    stopwatch = Stopwatch(now=clock)
    log = actions.Log(
        writer,
        every=2,
        last=5,
        stopwatch=stopwatch,
        unit="token",
        units_per_step=1024,
        flops_per_step=3e9,
        peak_flops=24e9,
    )
    for step in range(1, 6):
        with stopwatch.waiting():
            clock.seconds += 30.0 if step == 1 else 0.0625
        clock.seconds += 30.0 if step == 1 else 0.1875  # The first one is compiled.
        log(step, metrics={"learning/ce": float(step)})
    assert writer.scalars == [
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


def test_log_of_every_step_knows_no_speed_of_the_first():
    clock, writer = Clock(), Recorder()
    log = actions.Log(
        writer,
        every=1,
        last=2,
        stopwatch=Stopwatch(now=clock),
        unit="token",
        units_per_step=8,
    )
    for step in (1, 2):
        clock.seconds += 0.5
        log(step, metrics={})
    assert writer.scalars[0] == (1, {})
    assert writer.scalars[1][1]["speed/tokens_per_second"] == 16.0


def test_pauses_do_not_slow_the_logged_speed():
    clock, writer = Clock(), Recorder()
    stopwatch = Stopwatch(now=clock)
    log = actions.Log(
        writer, every=2, last=9, stopwatch=stopwatch, unit="token", units_per_step=1
    )

    def evaluate(state):
        clock.seconds += 30.0
        with stopwatch.paused("inner"):  # A pause within a pause counts once.
            clock.seconds += 30.0
        return {"loss": state}

    evaluation = actions.Evaluate(
        {"held_out": evaluate}, writer=writer, every=3, stopwatch=stopwatch
    )
    for step in range(1, 5):
        clock.seconds += 0.5
        log(step, metrics={})
        evaluation(step, state=jnp.float32(2.5))
    speeds = {f"speed/{x}_per_second" for x in ("steps", "tokens")}
    speeds |= {"speed/waiting_for_data"}
    assert [(step, set(scalars)) for step, scalars in writer.scalars] == [
        (2, speeds),
        (3, {"held_out/loss"}),
        (4, speeds),
    ]
    assert [writer.scalars[i][1]["speed/steps_per_second"] for i in (0, 2)] == [2, 2]
    assert evaluation.results == {"held_out": {"loss": 2.5}}


def test_finite_metrics_stop_nothing():
    stop = actions.StopOnNan(terms=["ce"])
    for step in (1, 2, 3):
        stop(step, metrics={"learning/ce": 1e30}, rows=np.arange(4))


def test_the_first_bad_term_is_named_in_the_order_of_the_experiment():
    writer = Recorder()
    stop = actions.StopOnNan(terms=["z_loss", "ce"], writer=writer)
    metrics = {
        "learning/ce": math.nan,
        "learning/fine": 1.0,
        "learning/total": math.nan,
        "learning/z_loss": math.inf,
        "moe/entropy": math.nan,
        "optimizer/gradient_norm": math.nan,
    }
    with pytest.raises(NotFinite) as error:
        stop(123, metrics=metrics, rows=np.array([7, 1, 40], np.int32))
    assert str(error.value).splitlines() == [
        "step 123: learning/z_loss is inf (and so are learning/ce, learning/total, "
        "optimizer/gradient_norm, moe/entropy)",
        "batch of step 123: dataset rows 7, 1, 40",
        "no checkpoint of this state was kept; the last one is good",
    ]
    assert writer.scalars == [(123, metrics)] and writer.flushed == 1


def test_rows_of_a_large_batch_are_shortened():
    stop = actions.StopOnNan(terms=["ce"])
    with pytest.raises(NotFinite, match=r"30, 31, \.\.\. \(256 in all\)"):
        stop(1, metrics={"learning/ce": math.nan}, rows=np.arange(256))


def test_checkpoints_are_saved_when_due_and_when_forced():
    saved = []
    save = actions.Checkpoint(
        lambda step, state: saved.append((step, state)),
        every=4,
        last=9,
        stopwatch=Stopwatch(),
    )
    for step in range(1, 6):
        save(step, state="state")
    save.force(5, state="state")
    save.force(5, state="state")
    assert saved == [(4, "state"), (5, "state")]


def test_samples_write_prompt_and_continuation():
    writer = Recorder()
    samples = actions.Samples(
        lambda state: [actions.Sample(prompt="import ", text=state)],
        writer=writer,
        every=2,
        stopwatch=Stopwatch(),
    )
    samples(2, state="os")
    assert writer.texts == [(2, {"samples/0": "import os"})]
    assert samples.latest == [actions.Sample(prompt="import ", text="os")]


def profiled(monkeypatch, profile, steps):
    trace = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: trace.append(path))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: trace.append("stop"))
    seen = []
    for step in steps:
        profile(step, state=jnp.zeros(()))
        seen.append(len(trace))
    profile.close()
    return trace, seen


def test_the_profile_covers_its_window(monkeypatch):
    profile = actions.Profile("logs", first=3, num_steps=2)
    trace, seen = profiled(monkeypatch, profile, range(1, 9))
    assert trace == ["logs", "stop"]
    assert seen == [0, 0, 1, 1, 2, 2, 2, 2]


def test_a_profile_cut_short_is_closed(monkeypatch):
    profile = actions.Profile("logs", first=3, num_steps=5)
    assert profiled(monkeypatch, profile, range(1, 5))[0] == ["logs", "stop"]


@pytest.mark.parametrize(
    "profile",
    [
        actions.Profile("logs", first=3, num_steps=0),
        actions.Profile("logs", first=3, num_steps=2, start=4),
    ],
)
def test_no_window_no_profile(monkeypatch, profile):
    assert profiled(monkeypatch, profile, range(5, 9))[0] == []


def test_a_real_profile_is_written(tmp_path):
    profile = actions.Profile(tmp_path / "profile", first=1, num_steps=1)
    for step in range(1, 4):
        profile(step, state=jnp.ones((2,)) * step)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_the_parameter_table_is_sorted_summed_and_shows_shardings(tmp_path):
    mesh = jax.make_mesh(
        (4, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )

    def put(value, *spec):
        return jax.device_put(value, NamedSharding(mesh, PartitionSpec(*spec)))

    parameters = {
        "layers": {
            10: {"kernel": put(jnp.ones((4, 8), jnp.bfloat16), None, "fsdp")},
            2: {"kernel": put(jnp.zeros((8, 2)), ("data", "fsdp"))},
        },
        "embedding": put(jnp.arange(4.0)),
    }
    table = actions.write_parameters(parameters, tmp_path / "parameters.txt")
    assert (tmp_path / "parameters.txt").read_text() == table + "\n"
    cells = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in table.splitlines()
        if row.startswith("|")
    ]
    assert cells == [
        ["Name", "Shape", "Dtype", "Size", "Sharding", "Mean", "Std"],
        ["embedding", "(4,)", "float32", "4", "", "1.5", "1.12"],
        ["layers/2/kernel", "(8, 2)", "float32", "16", "data+fsdp", "0.0", "0.0"],
        ["layers/10/kernel", "(4, 8)", "bfloat16", "32", "-, fsdp", "1.0", "0.0"],
    ]
    assert table.endswith("Total: 52 parameters, 144 bytes")


def test_no_parameters_make_an_empty_table():
    assert "Total: 0 parameters, 0 bytes" in actions.parameter_table({})
