"""Layers that draft are no part of what is handed on."""

import functools

from models import Drafted, Transformer
from runner.weights import drafts
from runner.weights.adapters import Merged

STUDENT = functools.partial(Transformer, vocab_size=8)


def test_what_drafts_is_left_out():
    drafting = functools.partial(Drafted, model=STUDENT)
    whole = Merged(drafting, {"embedding": None, "draft/layers/0/mix": None})  # pyright: ignore[reportArgumentType] - only names are read
    assert drafts.left_out(whole) == Merged(STUDENT, {"embedding": None})  # pyright: ignore[reportArgumentType] - as above
