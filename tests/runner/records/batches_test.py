"""Batches are encoded a part at a time; records do not show it."""

import numpy as np
import pytest

from runner.errors import UserError
from runner.records import format
from runner.records.format import Layout, encode_batch
from tests.runner.records import sets

LAYOUT = Layout(mode="top_k", entries=5, vocab_size=70_000, sequence_length=4)


@pytest.mark.parametrize("records_a_part", [1, 2, 5, 20])
def test_parts_do_not_show(tmp_path, monkeypatch, records_a_part):
    made = sets.make(tmp_path, LAYOUT, count=11)
    monkeypatch.setattr(format, "_CACHED", records_a_part * 4 * 5)
    found = encode_batch(
        made.layout, indices=range(11), rows=made.data, stored=made.stored
    )
    assert found == made.records
    stored = {name: x.copy() for name, x in made.stored.items()}
    stored["indices"][9, 1, 2] = 70_000
    with pytest.raises(UserError, match="rows 0 to 10 cannot be recorded: ids reach"):
        encode_batch(made.layout, indices=range(11), rows=made.data, stored=stored)


def test_an_empty_batch_has_no_records():
    layout = Layout(mode="top_k", entries=3, vocab_size=9, sequence_length=4)
    rows = dict.fromkeys(
        ("tokens", "targets", "mask", "segment_ids", "positions"), np.zeros((0, 4))
    )
    stored = {
        "indices": np.zeros((0, 4, 3), np.int32),
        "logits": np.zeros((0, 4, 3)),
        "log_normalizers": np.zeros((0, 4, 1)),
        "log_rests": np.zeros((0, 4, 1)),
    }
    assert encode_batch(layout, indices=[], rows=rows, stored=stored) == []
