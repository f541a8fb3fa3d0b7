"""Rows of a user's own dataset that would train wrongly are named as they are read."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from runner.data.pipeline import batches
from runner.errors import UserError
from runner.runtime import Input
from tests.runner.data.own_rows import own


@pytest.mark.parametrize("target", [-100, -1, 3, 2**31 - 1])
def test_a_counted_target_outside_the_vocabulary_is_named(target):
    message = f"row 7, position 2: target {target} is not in the vocabulary, 0 to 2"
    with pytest.raises(UserError, match=re.escape(message)):
        own(targets=target).rows(np.arange(12))
    assert len(own(targets=target, mask=False).rows(np.arange(12))) == 4
    # Of a part, the row has the number that it has there.
    with pytest.raises(UserError, match="row 3, position 2"):
        some = dataclasses.replace(
            own(targets=target), selection=np.array([0, 1, 2, 7])
        )
        some.rows(np.arange(4))


def test_a_token_outside_the_vocabulary_is_named_unless_it_is_padding():
    with pytest.raises(UserError, match="row 7, position 2: token -100 is not in"):
        own(tokens=-100).rows(np.arange(12))
    own(tokens=-100, segment_ids=0, mask=False).rows(np.arange(12))


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_a_mask_that_is_no_bool_is_refused(dtype):
    rows = own()
    rows.arrays["mask"] = rows.arrays["mask"].astype(dtype)
    with pytest.raises(UserError, match=f"must be bool, got {dtype} .*token_weight"):
        rows.rows(np.arange(1))


def test_the_batch_that_holds_it_is_refused():
    with (
        pytest.raises(UserError, match="row 7, position 2: target -100"),
        batches(
            own(targets=-100),
            batch_size=12,
            seed=0,
            start=0,
            sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]),
            config=Input(),
        ) as stream,
    ):
        next(stream)
