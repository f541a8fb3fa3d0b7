import numpy as np
import pytest

from runner import data
from runner.errors import UserError


def test_it_has_the_shapes_of_packed_text():
    rows = data.PlannedTokens(vocab_size=300, sequence_length=7).load()
    found = rows.rows(np.zeros(2, np.int64))
    assert {name: (x.shape, x.dtype.name) for name, x in found.items()} == {
        "tokens": ((2, 7), "int32"),
        "targets": ((2, 7), "int32"),
        "segment_ids": ((2, 7), "int32"),
        "positions": ((2, 7), "int32"),
        "mask": ((2, 7), "bool"),
    }
    assert rows.vocabulary.size == 300 and rows.targets_per_row == 7


def test_plans_of_other_sizes_are_other_data():
    found = {
        data.PlannedTokens(vocab_size=v, sequence_length=t).load().fingerprint
        for v in (300, 301)
        for t in (7, 8)
    }
    assert len(found) == 4


def test_a_run_is_refused_and_told_what_to_give():
    planned = data.PlannedTokens(vocab_size=300, sequence_length=7)
    planned.check_shapes()
    with pytest.raises(
        UserError, match="holds no text: it serves --dry_run; for a run"
    ):
        planned.check()


@pytest.mark.parametrize(("vocab_size", "length"), [(0, 7), (300, 0)])
def test_sizes_below_one_are_refused(vocab_size, length):
    with pytest.raises(UserError, match="must be at least 1, got 0"):
        data.PlannedTokens(vocab_size=vocab_size, sequence_length=length)
