"""What a start imports is never walked by the collector."""

import gc

import pytest

from runner.cli import gc_freeze


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_until_the_release_and_all_so_far_is_left_alone():
    with gc_freeze.hold():
        assert not gc.isenabled()
        made = [[] for _ in range(100)]
        gc_freeze.release()
        assert gc.isenabled() and gc.get_freeze_count() > len(made)
    assert gc.isenabled()


def test_an_end_without_a_release_releases():
    with pytest.raises(SystemExit), gc_freeze.hold():
        raise SystemExit
    assert gc.isenabled() and gc.get_freeze_count()


def test_a_release_without_a_hold_does_nothing():
    gc_freeze.release()
    assert not gc.get_freeze_count()
