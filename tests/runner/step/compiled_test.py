"""The compiled step inside the loop: built once, fed by donation, never waited for."""

import contextlib
import dataclasses
import functools
import logging
import types

import fiddle as fdl
import jax
import numpy as np
import pytest

from runner import runtime
from runner.train import loop
from runner.workdir.workdir import Workdir
from runner.writers import json_lines
from tests.runner import resume_config

CONFIG = runtime.Runtime(
    loop=runtime.Loop(
        log_every=1, evaluate_every=2, evaluate_batches=1, checkpoint_every=2
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("text")
    text = "A loss answers with one value per token, and divides by nothing at all. "
    (made / "text.txt").write_text(text * 99)
    return made


@pytest.fixture(scope="module")
def prepare(folder):
    """`prepare(num_steps)`: a small experiment's `Setup`; its step is traced once."""

    @functools.cache
    def make(num_steps, *, plain=False):
        cfg = resume_config.config.as_buildable()
        resume_config.reads(cfg, str(folder / "text.txt"))
        cfg.num_steps, cfg.student.num_layers = num_steps, 1
        if plain:  # quick to compile
            cfg.teacher, cfg.losses = None, cfg.losses[:1]
            del cfg.student.mlp
        cfg.losses[0].token_weight = None  # its table has the rows of another text
        config = dataclasses.replace(
            CONFIG, input=runtime.Input(cache=str(folder / "cache"))
        )
        return fdl.build(cfg).prepare(config)

    return make


class Asked:
    """Hooks that note what the loop does, and in which order."""

    ended = False

    def __init__(self, due=()):
        self.events, self._due = [], due

    def announce(self, doing):
        pass

    def waiting_for_data(self):
        return contextlib.nullcontext()

    def on_state(self, step, state):
        self.events.append(f"state {step}")

    def observe(self, step, metrics, rows):
        self.events.append(f"read {step}")

    def due(self, step):
        return step in self._due


class Watched:
    """A step whose calls are noted."""

    def __init__(self, step, events):
        self._step, self._events = step, events
        self.unflatten, self.state = step.unflatten, step.state

    def __call__(self, leaves, batch):
        self._events.append("dispatch")
        return self._step(leaves, batch)


def traced(ready, hooks):
    """`loop.run` on a state without values: to read one is an error."""
    watched = dataclasses.replace(ready, step=Watched(ready.step, hooks.events))
    stop = types.SimpleNamespace(
        after=lambda step: False, at_once=contextlib.nullcontext
    )

    def run(leaves):
        state = ready.step.unflatten(leaves)
        begins = dataclasses.replace(state, step=np.int32(0))
        return loop.run(watched, begins, hooks, stop)

    jax.eval_shape(run, jax.tree.leaves(ready.step.state))
    return hooks.events


def test_metrics_are_read_once_the_next_step_is_dispatched(prepare):
    assert traced(prepare(3), Asked()) == [
        "state 0",
        *("dispatch", "dispatch", "read 1", "dispatch", "read 2"),
    ]


def test_metrics_are_read_at_once_only_where_the_state_is_asked_for(prepare):
    assert traced(prepare(3), Asked(due=(2, 3))) == [
        "state 0",
        *("dispatch", "dispatch", "read 1", "read 2", "state 2"),
        *("dispatch", "read 3", "state 3"),
    ]


def test_a_call_consumes_the_whole_state(prepare):
    ready = prepare(3)
    given = jax.tree.leaves(ready.initial_state())
    with ready.batches(start=0) as batches:
        arguments = given, next(batches), ready.step.frozen
        compiled = ready.step.compiled.lower(*arguments).compile()
        size = sum(x.addressable_shards[0].data.nbytes for x in given)
        compiled(*arguments)
    assert compiled.memory_analysis().alias_size_in_bytes >= 0.99 * size
    assert all(x.is_deleted() for x in given)


@pytest.mark.slow
def test_a_run_with_evaluations_and_its_continuation_compile_the_step_once_each(
    prepare, tmp_path, caplog
):
    log = tmp_path / "metrics.jsonl"
    for num_steps in (4, 7):
        ready = prepare(num_steps, plain=True)
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            loop.train(ready, Workdir(tmp_path))
        found = [r.message for r in caplog.records if "XLA compilation" in r.message]
        assert sum("_on_leaves" in message for message in found) == 1, found
        assert sum("_batch_sums" in message for message in found) <= 2, found
    shares = [row.get("speed/waiting_for_data", -1) for row in json_lines.read(log)]
    assert 0.0 < max(shares) < 1.0
    steps = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert steps == ["00000004", "00000006", "00000007"]
