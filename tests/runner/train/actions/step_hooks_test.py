"""Hooks of a graph, called beside the steps."""

import dataclasses
import json

import pytest

import runner
from runner.errors import UserError
from runner.train.actions.checkpoint import Checkpoint
from runner.train.actions.context import Results
from runner.train.actions.step_hooks import StepHooks
from tests.runner.train.contexts import context


@dataclasses.dataclass
class Patience(runner.StepHook):
    """Stops once the loss was not below its best for `most` calls in a row."""

    most: int
    every: int = 1
    best: float = dataclasses.field(default=float("inf"), init=False)
    stale: int = dataclasses.field(default=0, init=False)

    def due(self, step):
        return step > 0 and step % self.every == 0

    def __call__(self, context):
        loss = context.metrics["loss"]
        self.stale = 0 if loss < self.best else self.stale + 1
        self.best = min(loss, self.best)
        context.log({"patience/stale": self.stale})
        if self.stale == 0:
            context.save()
        if self.stale >= self.most:
            context.stop(f"no better than {self.best}")

    def memory(self):
        return {"best": self.best, "stale": self.stale}

    def recall(self, memory):
        self.best, self.stale = memory["best"], memory["stale"]


@dataclasses.dataclass
class Calls(runner.StepHook):
    """Notes what it was called with."""

    steps: tuple = (0, 2)
    calls: list = dataclasses.field(default_factory=list)

    def due(self, step):
        return step in self.steps

    def __call__(self, context):
        self.calls.append((context.step, context.state, dict(context.metrics)))


LOSSES = {1: 5.0, 2: 4.0, 3: 4.5, 4: 3.0, 5: 3.5, 6: 3.25, 7: 1.0}


class Run:
    """A run of 7 steps, of which one can go on after a checkpoint."""

    def __init__(self, *hooks, start=0, until=7, memory=None):
        self.saved = {}
        self.context = context(
            num_steps=7,
            start=start,
            step_hooks=hooks,
            results=Results(),
            save=self._save,
            loop={"checkpoint_every": 0},
        )
        self.hook, checkpoint = StepHooks(self.context), Checkpoint(self.context)
        if memory is not None:
            self.hook.recall(json.loads(json.dumps(memory)))
        self.last = start
        for step in range(start, until + 1):
            if self.hook.ended:
                break
            self.last = step
            self.context.results.metrics = {"loss": LOSSES[step]} if step else {}
            for each in (self.hook, checkpoint):
                each(step, state=f"state {step}")

    def _save(self, step, state):
        self.saved[step] = state, self.hook.memory()


def test_a_hook_reads_state_and_metrics_where_it_is_due():
    calls = Calls()
    Run(calls)
    assert calls.calls == [(0, "state 0", {}), (2, "state 2", {"loss": 4.0})]


def test_hooks_act_in_the_order_of_the_graph():
    both: list = []
    Run(Calls((3,), both), Calls((3, 4), both))
    assert [step for step, *_ in both] == [3, 3, 4]


def test_a_hook_logs_saves_and_stops():
    run = Run(Patience(most=2))
    assert run.last == 6
    assert list(run.saved) == [1, 2, 4]
    assert run.saved[4] == (
        "state 4",
        {"hooks": [{"best": 3.0, "stale": 0}], "ended": False},
    )
    assert run.context.writer.scalars[-1] == (6, {"patience/stale": 2})
    ((step, texts),) = run.context.writer.texts
    reason = "Patience ends the run after step 6: no better than 3.0"
    assert (step, texts) == (6, {"notices/ended": reason})


@pytest.mark.parametrize("killed", [1, 2, 3, 4, 5])
def test_a_run_that_goes_on_does_what_the_whole_one_did(killed):
    before = Run(Patience(most=2), Calls((killed,)), until=killed)
    memory = before.hook.memory()
    again = Calls((killed,))
    after = Run(Patience(most=2), again, start=killed, memory=memory)
    assert after.last == 6 and again.calls == []
    assert after.hook.memory() == Run(Patience(most=2), Calls()).hook.memory()


def test_a_run_that_a_hook_ended_stays_ended():
    memory = Run(Patience(most=2)).hook.memory()
    assert memory["ended"]
    assert Run(Patience(most=2), start=6, memory=memory).hook.ended


def test_hooks_without_a_memory_leave_none():
    assert Run().hook.memory() is None
    assert Run(Calls()).hook.memory() is None


@pytest.mark.parametrize("memory", [float("nan"), {"a": object()}, {1: b"x"}])
def test_a_memory_that_is_no_json_is_named(memory):
    hook = Calls((3,))
    hook.memory = lambda: memory
    with pytest.raises(UserError, match="hooks: the memory of Calls must be JSON"):
        Run(hook).hook.memory()
