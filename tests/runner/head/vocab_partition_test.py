"""Tiles cover a vocabulary exactly, whatever its size and wherever it lies."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.head.vocab_partition import VocabPartition


def tiles(cut):
    whole, rest = cut.tiles
    starts = [(i * cut.width, cut.width) for i in range(whole)]
    return [*starts, (whole * cut.width, rest)] if rest else starts


@settings(max_examples=25)
@given(
    piece=st.integers(1, 60),
    shards=st.sampled_from([1, 2, 4]),
    entries=st.integers(1, 99),
)
def test_every_entry_is_in_one_tile(piece, shards, entries):
    cut = VocabPartition.of(piece * shards, shards=shards, entries=entries)
    ids = np.concatenate([np.ravel(cut.ids(*tile)) for tile in tiles(cut)])
    assert sorted(ids.tolist()) == list(range(piece * shards))
    assert cut.width * shards <= max(entries, shards)


@functools.partial(jax.jit, static_argnums=(0, 4))
def cut_and_add(cut, x, total, start, width):
    """The tile at `start` of `x`, its ids, and `total` with it added."""
    part = cut.slice(x, 1, start, width)
    return part, cut.ids(start, width), cut.add(total, part, 1, start)


@settings(max_examples=25)
@given(
    piece=st.integers(1, 30), shards=st.sampled_from([1, 2]), entries=st.integers(1, 40)
)
def test_slice_and_add_use_the_ids_of_the_tile(piece, shards, entries):
    cut = VocabPartition.of(piece * shards, shards=shards, entries=entries)
    x = np.arange(2 * piece * shards, dtype=np.float32).reshape(2, -1)
    total = np.zeros_like(x)
    for start, width in tiles(cut):
        part, ids, total = cut_and_add(cut, x, total, start, width)
        np.testing.assert_array_equal(part, x[:, np.ravel(ids)])
    np.testing.assert_array_equal(total, x)


@pytest.mark.parametrize(
    ("size", "width"), [(151_936, 2374), (131_072, 4096), (128_256, 4008), (8191, 4096)]
)
def test_tiles_are_equal_where_a_near_width_divides(size, width):
    cut = VocabPartition.of(size, shards=1, entries=4096)
    assert cut.width == width
    assert (cut.tiles[1] == 0) == (size % width == 0)


def test_a_size_that_shards_do_not_divide_is_whole():
    assert VocabPartition.of(37, shards=2, entries=8).shards == 1
