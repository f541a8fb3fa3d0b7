"""Stored logits, by the compiler's text."""

import math
import re

import jax

from runner import runtime
from tests import heads
from tests.benchmarks import head_bench

SIZE = heads.Size(tokens=64, dim=8, vocabulary=128, teacher_dim=4)
ZEROS = re.compile(r"f32\[([\d,]+)\]\S* broadcast\(\S*(?:constant|param)\S*\), dim")


def test_no_zeros_as_large_as_stored_logits_are_made():
    """A scan that stacked its tiles filled an array of their size first."""
    config = runtime.Head(smallest_tile=16)
    plan = heads.plan(SIZE, head_bench.KL, head=config)
    assert plan.by_sums and plan.mode != "lean" and plan.entries < SIZE.vocabulary
    step = heads.step(SIZE, head_bench.KL, head=config)
    text = jax.jit(step).lower(*heads.shapes(SIZE).values()).compile().as_text()
    assert text is not None
    sizes = [math.prod(map(int, dims.split(","))) for dims in ZEROS.findall(text)]
    assert sizes and max(sizes) < SIZE.tokens * SIZE.vocabulary
