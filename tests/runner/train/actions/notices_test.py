"""Terms that count nothing, and batches that balances skip, are said once."""

import json
import math

import pytest

import losses
from losses import Group, LossTerm, MatchValue
from runner.train.actions.notices import Notices
from tests.runner.train.contexts import context

SPAN = losses.Span(begin=151644, end=151645)
ITEMS = [
    LossTerm(name="ce", loss=losses.CrossEntropy(), token_weight=SPAN),
    Group(
        name="kd",
        weight=MatchValue(to="ce"),
        terms=[
            LossTerm(name="kl", loss=losses.ForwardKL()),
            LossTerm(name="watched", loss=losses.LogitMSE(), weight=0.0),
        ],
    ),
]
GOOD = {
    "counts/ce": 8.0,
    "learning/ce": 3.0,
    "weighted/ce": 3.0,
    "counts/kl": 8.0,
    "learning/kl": 1.0,
    "learning/kd": 1.0,
    "counts/watched": 8.0,
    "learning/watched": 1.0,
    "contributions/watched": 0.0,
    "skipped/kd": 0.0,
}


def notices(*steps, num_steps=12, start=0, memory=None):
    """What is written over steps of these metrics, by step."""
    run = context(items=ITEMS, num_steps=num_steps, start=start)
    hook = Notices(run)
    if memory is not None:
        hook.recall(json.loads(json.dumps(memory)))
    for step, metrics in enumerate(steps, start=start + 1):
        hook(step, metrics={k: v for k, v in metrics.items() if v is not None})
    return run.writer.texts, hook.memory()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weighted/ce": 0.0}, "Span found no 151644"),
        ({"counts/ce": 0.0, "learning/ce": None}, "target_mask holds at none"),
        ({"learning/ce": 0.0, "weighted/ce": 0.0}, "its values are exactly 0"),
    ],
)
def test_a_term_that_counts_nothing_in_ten_steps_is_named_with_the_reason(changes, why):
    idle = GOOD | changes
    texts, _ = notices(*[idle] * 12)
    text = f"`ce` has counted no token in 10 steps: {why}"
    assert texts == [(10, {"notices/idle_ce": text})]
    texts, _ = notices(*[idle] * 9, GOOD, *[idle] * 2)
    assert texts == []
    texts, _ = notices(*[idle] * 4, num_steps=4)
    assert texts == [(4, {"notices/idle_ce": text.replace("10", "4")})]


def test_a_skipped_batch_is_said_once():
    skipped = GOOD | {"skipped/kd": 1.0}
    texts, _ = notices(GOOD, skipped, GOOD, skipped)
    ((step, text),) = texts
    assert step == 2 and text["notices/skipped_kd"].startswith(
        "weight of `kd`: MatchValue skips this batch: what it reads is negative, zero "
    )


def test_a_term_of_weight_zero_that_is_not_finite_is_said_once():
    texts, _ = notices(*[GOOD | {"learning/watched": math.nan}] * 3)
    text = "`watched` is nan; its weight is 0, so nothing follows from it"
    assert texts == [(1, {"notices/not_finite_watched": text})]


@pytest.mark.parametrize("stopped", [1, 3, 9, 10, 11])
def test_a_resumed_run_says_what_a_whole_one_does(stopped):
    idle = GOOD | {"weighted/ce": 0.0}
    steps = [idle | {"skipped/kd": float(i % 3 == 1)} for i in range(12)]
    whole, _ = notices(*steps)
    first, memory = notices(*steps[:stopped])
    rest, _ = notices(*steps[stopped:], start=stopped, memory=memory)
    assert first + rest == whole
