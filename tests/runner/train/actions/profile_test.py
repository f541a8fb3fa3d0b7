"""The profiled window of steps."""

import jax
import jax.numpy as jnp
import pytest

from runner.train.actions.profile import Profile
from tests.runner.train.contexts import context


def profile(*, first, num_steps, **fields):
    loop = {"profile_start": first, "profile_steps": num_steps}
    return Profile(context(loop=loop, **fields))


def traced(monkeypatch, hook, steps):
    """The calls of the profiler, and how many there were after each step."""
    trace = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: trace.append(path))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: trace.append("stop"))
    counts = []
    for step in steps:
        hook(step, state=jnp.zeros(()))
        counts.append(len(trace))
    hook.close()
    return trace, counts


def test_the_profile_covers_its_window(monkeypatch):
    hook = profile(first=3, num_steps=2)
    trace, counts = traced(monkeypatch, hook, range(1, 9))
    assert trace == ["profile", "stop"]
    assert counts == [0, 0, 1, 1, 2, 2, 2, 2]


def test_a_profile_cut_short_is_closed(monkeypatch):
    hook = profile(first=3, num_steps=5)
    assert traced(monkeypatch, hook, range(1, 5))[0] == ["profile", "stop"]


@pytest.mark.parametrize(("num_steps", "start"), [(0, 0), (2, 4)])
def test_no_window_no_profile(monkeypatch, num_steps, start):
    hook = profile(first=3, num_steps=num_steps, start=start)
    assert traced(monkeypatch, hook, range(5, 9))[0] == []


def test_a_real_profile_is_written(tmp_path):
    hook = profile(first=1, num_steps=1, workdir=tmp_path)
    for step in range(1, 4):
        hook(step, state=jnp.ones((2,)) * step)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
