"""When a periodic hook acts."""

import pytest

from runner.train.actions.periodic import StateHook


def fired(hook, steps, **inputs):
    return [step for step in steps if hook(step, **inputs)]


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
def test_a_hook_is_due_at_multiples_and_at_the_last_step(every, last, start, expected):
    calls = []
    hook = StateHook(calls.append, every=every, last=last, start=start)
    steps = range(start + 1, 13)
    assert [step for step in steps if hook.due(step)] == expected
    assert fired(hook, steps) == expected == calls


def test_a_skipped_step_is_no_error():
    hook = StateHook(lambda step: None, every=5)
    assert fired(hook, [1, 2, 5, 9, 10, 17, 20]) == [5, 10, 20]


def test_nothing_happens_again_at_the_step_a_run_resumes_from():
    hook = StateHook(lambda step: None, every=5, start=10)
    assert not hook(10)
    assert not hook.act_now(10)
    assert fired(hook, range(11, 16)) == [15]


def test_a_hook_acts_once_a_step():
    calls = []
    hook = StateHook(calls.append, every=5, last=7)
    assert hook.act_now(3) and hook(5) and hook(7)
    assert not hook.due(5) and not hook(5) and not hook.act_now(7)
    assert calls == [3, 5, 7]


def test_a_negative_period_is_refused():
    with pytest.raises(ValueError, match="every must not be negative, got -1"):
        StateHook(print, every=-1)
