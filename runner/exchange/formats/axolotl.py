"""Rows of axolotl's distillation data sets, as JSONL.

Read at axolotl 067b021 (0.13), `src/axolotl/integrations/kd`. Two forms, told by their
columns; both want `input_ids`, which `axolotl preprocess` writes (rows of `messages`
alone have none):

* `target_logprobs` and `target_token_ids`, `[n k]`, with `target_mask`: what the
  trainer reads. It compares place i with the student's output at i, so place i is of
  the token after it. Padding is -inf, or -1e9, or masked.
* `logprobs` (another name with `logprobs_field`), a list for each of the last tokens,
  of `{"token": "token_id:5", "logprob": -0.1}`, which are of those tokens themselves:
  they move by one place here. Axolotl sets them beside the tokens and compares them
  unmoved: such a set is one position off to its trainer, and right here.

Scores are natural logarithms, over the k alone where axolotl has normalized them (they
sum to 1 then: the mass outside is not known), at `kd_temperature`, which is not
written: `--temperature` says it.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.exchange.formats import json_lines
from runner.exchange.formats.scored import (
    BadScores,
    Entries,
    Scored,
    Scores,
    from_places,
)
from runner.exchange.formats.vllm import TOKEN_ID

_PADDING = -1e8  # below are entries that the collator has filled up


@dataclasses.dataclass(frozen=True)
class Line:
    """One row."""

    input_ids: Sequence[int] | None = None
    target_logprobs: Sequence[Any] | None = None
    target_token_ids: Sequence[Any] | None = None
    target_mask: Sequence[Any] | None = None
    logprobs: Sequence[Any] | None = None


def read(source: Path) -> Scores:
    """Return the scores of a file of rows, or of a folder of such files."""
    return Scores(
        teacher="unknown, axolotl", sequences=_sequences(source), temperature=None
    )


def _sequences(source: Path) -> Iterator[Scored]:
    for place, line in json_lines.read(source, Line):
        if line.input_ids is None:
            raise BadScores(f"{place}: has no input_ids; write them with preprocess")
        try:
            places = _prepared(line) if line.target_logprobs else _raw(line)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise BadScores(
                f"{place}: wants target_logprobs and target_token_ids of one shape, or "
                'logprobs of {"token": "token_id:N", "logprob": ...}'
            ) from None
        count = len(line.input_ids)
        if len(places) > count:
            raise BadScores(f"{place}: scores at {len(places)} of {count} tokens")
        yield from_places(line.input_ids, places, place=place)


def _prepared(line: Line) -> list[Entries]:
    assert line.target_logprobs is not None
    ids, scores = line.target_token_ids or (), line.target_logprobs
    masks = line.target_mask or [[1] * len(x) for x in scores]
    return [
        [(int(i), s) for i, s, m in zip(*place, strict=True) if m and s > _PADDING]
        for place in zip(ids, scores, masks, strict=True)
    ]


def _raw(line: Line) -> list[Entries | None]:
    assert line.input_ids is not None
    scores = line.logprobs or ()
    start = len(line.input_ids) - len(scores)
    places = [None if x is None else _named(x) for x in scores]
    if start < 0:
        raise ValueError("more scores than tokens")
    # Of each token itself, so a place earlier; that of the first token is lost.
    return [*[None] * (start - 1), *places] if start else places[1:]


def _named(entries: Sequence[Any]) -> Entries:
    named = [(x["token"], x["logprob"]) for x in entries]
    if not all(token.startswith(TOKEN_ID) for token, _ in named):
        raise ValueError("tokens by text")
    pairs = [(int(token.removeprefix(TOKEN_ID)), score) for token, score in named]
    return [(i, -math.inf if s <= -9999 else s) for i, s in pairs]
