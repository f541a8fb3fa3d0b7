"""The order of the loop: which step is dispatched, and whose metrics are read, when."""

import contextlib
from types import SimpleNamespace

import jax.numpy as jnp

from runner.state.train_state import TrainState
from runner.train import loop


class Hooks:
    """Hooks that read the state after step 3, and write down all that is read."""

    ended = False

    def __init__(self, events):
        self._events = events

    def observe(self, step, metrics, rows):
        self._events.append(("read", step))

    def due(self, step):
        return step == 3

    def on_state(self, step, state):
        self._events.append(("state", step))

    def announce(self, doing):
        pass

    def waiting_for_data(self):
        return contextlib.nullcontext()


class Step:
    """A step that writes down that it was dispatched."""

    def __init__(self, events, state):
        self._events, self.state, self._number = events, state, 0

    def __call__(self, leaves, batch):
        self._number += 1
        self._events.append(("dispatch", self._number))
        return leaves, {}

    def unflatten(self, leaves):
        return leaves


def test_metrics_are_read_behind_the_next_step_but_for_those_of_the_first():
    events = []
    state = TrainState(jnp.int32(0), {}, {}, {}, {}, {})
    setup = SimpleNamespace(
        num_steps=4,
        config=SimpleNamespace(loop=SimpleNamespace(repeat_every=0)),
        step=Step(events, state),
        batches=lambda start: contextlib.nullcontext(iter([{"index": 0}] * 4)),
        with_rollouts=lambda leaves, batch: (batch, {}),
    )
    stop = SimpleNamespace(at_once=contextlib.nullcontext, after=lambda step: False)

    loop.run(setup, state, Hooks(events), stop)

    assert events == [
        ("state", 0),
        ("dispatch", 1),
        ("read", 1),
        ("dispatch", 2),
        ("dispatch", 3),
        ("read", 2),
        ("read", 3),
        ("state", 3),
        ("dispatch", 4),
    ]
