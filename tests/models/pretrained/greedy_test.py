"""Most probable continuations, against `transformers`: see tests/parity/greedy.py."""

import json

import numpy as np
import pytest

from models import pretrained
from models.decoding.generate import generate
from tests.models.pretrained.tables import FIXTURES

EXPECTED = json.loads(FIXTURES.with_name("greedy.json").read_text())
# One of each cache: plain, a window, experts. The others differ in arrays alone.
FAST = {"llama", "mistral", "qwen3_moe"}


@pytest.mark.parametrize(
    "family",
    [
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(EXPECTED["tokens"])
    ],
)
def test_prompts_of_all_lengths_go_on_together_as_each_does_in_transformers(family):
    prompts = EXPECTED["prompts"]
    lengths = [len(prompt) for prompt in prompts]
    padded = np.zeros((len(prompts), max(lengths)), np.int32)
    for row, prompt in enumerate(prompts):
        padded[row, : len(prompt)] = prompt
    tokens = EXPECTED["tokens"][family]
    model = pretrained.open_model(FIXTURES / family).load()
    ours = generate(model, padded, np.array(lengths), num_tokens=len(tokens[0]))
    np.testing.assert_array_equal(ours, tokens)
