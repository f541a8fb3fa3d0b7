"""Logits of every family, against `transformers`: see tests/parity/build.py."""

import numpy as np
import pytest

from models import pretrained
from tests.models.pretrained.tables import (
    FAMILIES,
    FIXTURES,
    TOLERANCE,
    expected,
    largest_difference,
)

# Read in the fast tests: a `.gguf` file of the first, and siblings of both.
SLOW = {"qwen2_moe", "deepseek_v3_plain_queries"}


@pytest.mark.parametrize(
    "family",
    [pytest.param(x, marks=pytest.mark.slow) if x in SLOW else x for x in FAMILIES],
)
def test_logits_are_those_of_transformers(family: str):
    model = pretrained.open_model(FIXTURES / family).load()
    difference = largest_difference(model, family)
    print(f"{family}: {difference:.1e}")
    assert difference < TOLERANCE
    assert np.std(expected(family)["logits"]) > 0.5  # there is something to agree on


@pytest.mark.parametrize("family", ["qwen2", "mixtral", "olmo2"])
def test_stacked_layers_give_the_same_logits(family: str):
    model = pretrained.open_model(FIXTURES / family).load(layers="stacked")
    assert largest_difference(model, family) < TOLERANCE
