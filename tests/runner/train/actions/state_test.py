"""Hooks that read the state: evaluations, samples, checkpoints."""

import dataclasses
import json

from runner.evaluation.sampling import Sample
from runner.train.actions.checkpoint import Checkpoint
from runner.train.actions.evaluate import Evaluate
from runner.train.actions.samples import samples
from tests.runner.train.contexts import context


def test_checkpoints_are_saved_when_due_and_on_a_stop():
    saved = []
    run = context(
        loop={"checkpoint_every": 4},
        num_steps=9,
        save=lambda step, state: saved.append((step, state)),
    )
    hook = Checkpoint(run)
    for step in range(1, 6):
        hook(step, state="state")
    hook.on_stop(5, state="state")
    hook.on_stop(5, state="state")
    assert saved == [(4, "state"), (5, "state")]


def test_samples_write_prompt_and_continuation():
    run = context(
        loop={"sample_every": 2},
        sample=lambda state: [Sample(prompt="import ", text=state)],
    )
    samples(run)(2, state="os")
    assert run.writer.texts == [(2, {"samples/0": "import os"})]
    assert run.results.samples == [Sample(prompt="import ", text="os")]


def test_only_a_fresh_run_evaluates_the_untrained_student():
    for start, steps in [(0, [0, 3, 6]), (3, [6])]:
        run = context(
            loop={"evaluate_every": 3},
            start=start,
            evaluations={"held_out": lambda state: {"loss": state}},
        )
        hook = Evaluate(run)
        for step in range(start, 7):
            hook(step, state=1.0)
        assert [step for step, _ in run.writer.scalars] == steps


def test_the_share_of_the_gap_is_of_the_start_before_a_resume_too():
    losses = {0: 6.0, 3: 5.0, 6: 4.0}

    def metrics(step):
        return {"loss": losses[step], "teacher/loss": 2.0}

    run = context(loop={"evaluate_every": 3}, evaluations={"held_out": metrics})
    first, rest = Evaluate(run), Evaluate(dataclasses.replace(run, start=3))
    for step in (0, 3):
        first(step, state=step)
    rest.recall(json.loads(json.dumps(first.memory())))
    rest(6, state=6)
    shares = [row["held_out/gap_closed"] for _, row in run.writer.scalars]
    assert shares == [0.0, 0.25, 0.5]


def test_the_untrained_student_and_the_result_are_measured_whatever_the_interval():
    run = context(
        loop={"evaluate_every": 0},
        num_steps=6,
        evaluations={"held_out": lambda state: {"loss": state}},
    )
    hook = Evaluate(run)
    for step in range(7):
        hook(step, state=1.0)
    assert [step for step, _ in run.writer.scalars] == [0, 6]
