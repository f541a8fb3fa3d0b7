import numpy as np
import pytest

from runner.dry_run.hlo import replica_groups

MESH = {"data": 2, "fsdp": 4}


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        ("replica_groups={{0,1},{2,3}}, x", [[0, 1], [2, 3]]),
        ("replica_groups={}, x", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("replica_groups=[2,2]<=[4], x", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0), x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}, x", [[0, 1, 2, 3]]),
        (
            "replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}",
            [[0, 2], [1, 3]],
        ),
        ("source_target_pairs={{0,1},{1,0}}", [[0, 1], [1, 0]]),
    ],
)
def test_every_form_of_groups(written, listed):
    np.testing.assert_array_equal(replica_groups.groups(written, 8), listed)


def test_a_form_that_is_not_known_is_none():
    assert replica_groups.groups("replica_groups=mesh['a'=8] {'a':(1)2}", 8) is None
    assert replica_groups.groups("dimensions={0}", 8) is None


@pytest.mark.parametrize(
    ("listed", "axes"),
    [
        ([[0, 1, 2, 3], [4, 5, 6, 7]], ("fsdp",)),
        ([[0, 4], [1, 5], [2, 6], [3, 7]], ("data",)),
        ([[0, 1, 2, 3, 4, 5, 6, 7]], ("data", "fsdp")),
        ([[0], [1]], ()),
    ],
)
def test_groups_lie_along_the_axes_in_which_they_differ(listed, axes):
    assert replica_groups.axes(np.array(listed), MESH) == axes
