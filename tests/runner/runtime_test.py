"""The fields of the runtime refuse what no run can have."""

import dataclasses

import pytest

from runner import runtime


def test_a_new_interval_of_the_loop_needs_no_check_of_its_own():
    @dataclasses.dataclass(frozen=True)
    class Longer(runtime.Loop):
        norm_every: int = 0

    assert Longer(norm_every=3).norm_every == 3
    with pytest.raises(ValueError, match=r"loop\.norm_every must not be negative"):
        Longer(norm_every=-1)
