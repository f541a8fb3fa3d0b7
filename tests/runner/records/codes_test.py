"""Codes of numbers: the fast way and the plain one are one."""

import jax.numpy as jnp
import numpy as np
import pytest

from runner.records import codes
from runner.teachers.offline import _logits


@pytest.mark.parametrize("width", [1, 2, 7, 64])
@pytest.mark.parametrize("offset", [0.0, -300.0, 88.7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("version", [1, 2])
def test_ranked_codes_are_those_of_any_order(width, offset, dtype, version):
    random = np.random.default_rng(0)
    below = np.sort(random.uniform(0, 31, (40, 9, width)), -1)
    below[20:] = np.sort(random.integers(0, 999, (20, 9, width)), -1) * 2.0**-12
    logits = (offset - below).astype(dtype)
    expected = codes.drops(logits, logits[..., :1], version=version)
    found = codes.ranked_drops(logits, version=version)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_half_a_step_goes_to_the_even_one():
    below = np.array([0, 0.5, 1, 1.5, 2.5, 3.5], np.float32) * np.float32(codes.DROP)
    assert codes.ranked_drops(-below[None]).tolist() == [[0, 0, 1, 2, 2, 4]]


def test_the_farthest_are_one_code_in_format_1():
    far = codes.FARTHEST * codes.DROP
    logits = np.array([[0, -far, -far - 1, -np.inf], [5, 4, 3, 2]], np.float32)
    assert codes.ranked_drops(logits, version=1).tolist() == [
        [0, codes.FARTHEST, codes.FARTHEST, codes.FARTHEST],
        [0, 2048, 4096, 6144],
    ]


def test_every_code_is_that_of_its_logit_and_the_farther_the_larger():
    every = np.arange(codes.RESERVED).astype("<u2")
    logits = codes.logits(every)
    np.testing.assert_array_equal(codes.ranked_drops(logits[None])[0], every)
    assert np.all(np.diff(logits) < 0) and logits[-1] == -np.inf
    assert logits[codes.FAR] == -16 and logits[codes.FARTHEST - 1] < -1e6
    np.testing.assert_array_equal(_logits(jnp.asarray(every), 2), logits)


@pytest.mark.parametrize(
    ("logits", "error"),
    [
        ([3, 1, 2], "best first"),
        ([1, 2, 3], "best first"),
        ([np.nan, 1, 0], "not finite"),
        ([2, np.nan, 0], "not finite"),
        ([2, 1, np.nan], "not finite"),
        ([np.inf, 1, 0], "not finite"),
        ([-np.inf, -np.inf, -np.inf], "not finite"),
        ([np.nan, np.nan, np.nan], "not finite"),
    ],
)
def test_what_is_not_ranked_or_no_number_is_refused(logits, error):
    around = np.array([[2, 1, 0], logits, [9, 8, 7]], np.float32)
    with pytest.raises(ValueError, match=error):
        codes.ranked_drops(around)


def test_ids_come_back_from_their_planes():
    for count in (1, 2, 5, 64):
        ids = np.random.default_rng(0).integers(0, 2**20, (3, 4, count), np.int32)
        high = codes.high_bits(ids)
        assert high.shape == (3, 4, -(-count // 2))
        np.testing.assert_array_equal(
            codes.join_ids((ids & 0xFFFF).astype("<u2"), high), ids
        )


@pytest.mark.parametrize("starts", [[3, 3], [4, 2], [1, 9]])
def test_runs_that_are_out_of_order_are_refused(starts):
    coded = np.zeros(2, [("start", "<u2"), ("value", "<i4")])
    coded["start"] = starts
    with pytest.raises(ValueError, match="runs are out of order"):
        codes.from_runs(coded, 8)
