"""The hook that keeps the best checkpoint."""

import json

import pytest

from runner.errors import UserError
from runner.evaluation.keep_best import KeepBest as Rule
from runner.train.actions.evaluate import Evaluate
from runner.train.actions.keep_best import KeepBest
from tests.runner.train.contexts import context

LOSSES = {1: 5.0, 2: 4.0, 3: 4.5, 4: 3.0, 5: 3.5, 6: float("nan"), 7: 1.0}


class Run:
    """A run of 7 steps, of which one can go on after a checkpoint."""

    def __init__(
        self, *, start=0, until=7, memory=None, metric="held_out/loss", **rule
    ):
        self.saved, self.measured = [], []
        self.context = context(
            loop={"evaluate_every": 3},
            num_steps=7,
            start=start,
            keep_best=Rule(metric=metric, **{"every": 1, **rule}),
            evaluations={"other": self._other, "held_out": self._held_out},
            save=lambda step, state: self.saved.append(step),
        )
        self.hooks = [Evaluate(self.context), KeepBest(self.context)]
        if memory is not None:
            self.best.recall(json.loads(json.dumps(memory)))
        for step in range(start + 1, until + 1):
            if self.best.ended:
                break
            self.last = step
            for hook in self.hooks:
                hook(step, state=step)

    @property
    def best(self):
        return self.hooks[1]

    def _held_out(self, step, *, whole=False):
        self.measured.append(("held_out", step, whole))
        return {"loss": LOSSES[step], "share": 1.0 if whole else 0.5}

    def _other(self, step, *, whole=False):
        self.measured.append(("other", step, whole))
        return {"loss": 0.0, "share": 1.0 if whole else 0.5}


def test_the_state_is_saved_where_the_metric_improves_and_nowhere_else():
    run = Run()
    assert run.saved == [1, 2, 4, 7]
    assert run.best.memory() == {
        "step": 7,
        "metrics": {"loss": 1.0, "share": 1.0},
        "stale": 0,
    }


def test_its_evaluation_is_of_all_rows_and_the_others_keep_their_own_interval():
    measured = Run(every=2).measured
    assert [x for x in measured if x[0] == "other"] == [
        ("other", step, False) for step in (3, 6, 7)
    ]
    assert [x[1:] for x in measured if x[0] == "held_out"] == [
        *((2, True), (3, False), (4, True), (6, True), (7, True))
    ]


def test_patience_ends_the_run_after_so_many_measurements_without_gain():
    run = Run(patience=2)
    assert (run.last, run.best.ended, run.saved) == (6, True, [1, 2, 4])
    assert Run(patience=1).last == 3
    assert Run(patience=2, every=3).last == 7  # 4.5, NaN, 1.0: one bad in a row


@pytest.mark.parametrize("stop", range(1, 6))
def test_a_resumed_run_chooses_and_ends_as_the_whole_one(stop):
    whole, begun = Run(patience=2), Run(patience=2, until=stop)
    rest = Run(patience=2, start=stop, memory=begun.best.memory())
    assert (rest.last, rest.best.memory()) == (whole.last, whole.best.memory())
    assert begun.saved + rest.saved == whole.saved


def test_a_run_that_was_saved_at_its_end_does_not_go_on():
    run = Run(patience=2, start=6, memory=Run(patience=2).best.memory())
    assert run.best.ended and not run.measured


def test_the_end_measures_what_was_not_and_says_why():
    run = Run(patience=2)
    del run.measured[:]
    for hook in run.hooks:
        hook.on_end(6, state=6)
    assert run.measured == [("other", 6, True)]
    ((_, texts),) = run.context.writer.texts
    assert texts == {
        "notices/ended": "the run ends: held_out/loss was not better in 2 "
        "measurements; the best is 3 at step 4"
    }


def test_a_metric_that_is_not_there_is_named_beside_those_that_are():
    with pytest.raises(UserError, match="held_out has no 'los'; did you mean 'loss'"):
        Run(metric="held_out/los")
