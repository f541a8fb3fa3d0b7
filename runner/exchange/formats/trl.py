"""Answers of `trl vllm-serve` at `/get_sequence_logprobs/`, as distillation asks it.

Read at TRL f2cd577 (1.10), `trl/scripts/vllm_serve.py`. From 1.16 on TRL asks a plain
vLLM server instead, whose answers are of the kind `vllm`. Asked with

    {"sequences": [ids], "prompt_lengths": [n], "top_logprobs": k}

Only what follows each prompt is scored: entry t is of token n + t given those before
it, so prompts of length 1 score everything that can be. Two forms: `logprobs` and
`logprob_token_ids`, nested lists by rank, of k entries and of the token itself where
that is none of them (left out here); or `response_format` "binary": float32 and int32
in base64, k entries, padded with -inf to the longest of its batch. NaN is null in the
first and -inf in the second. Natural logarithms over the whole vocabulary, of logits
before the temperature: of a prompt vLLM's do not feel the one that is asked.

A line is a response with the fields of its request, `sequences` and `prompt_lengths`,
which the response does not repeat; or has both, as `request` and `response`.
"""

import base64
import binascii
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runner.exchange.formats import json_lines
from runner.exchange.formats.scored import (
    BadScores,
    Entries,
    Scored,
    Scores,
    from_places,
)
from runner.files import form


@dataclasses.dataclass(frozen=True)
class Line:
    """A request and its response."""

    sequences: Sequence[Sequence[int]]
    prompt_lengths: Sequence[int]
    top_logprobs: int = 100
    logprobs: Sequence[Any] | None = None
    logprob_token_ids: Sequence[Any] | None = None
    logprobs_b64: str | None = None
    token_ids_b64: str | None = None
    shape: tuple[int, int, int] | None = None


def read(source: Path) -> Scores:
    """Return the scores of a file of answers, or of a folder of such files."""
    return Scores(teacher="unknown, TRL", sequences=_sequences(source))


def _sequences(source: Path) -> Iterator[Scored]:
    for place, value in json_lines.values(source):
        if isinstance(value, Mapping) and {"request", "response"} <= value.keys():
            value = {**value["request"], **value["response"]}
        with json_lines.at(place):
            yield from _scored(place, form.parse(Line, value))


def _scored(place: str, line: Line) -> Iterator[Scored]:
    batch, lengths = len(line.sequences), line.prompt_lengths
    if len(lengths) != batch:
        raise BadScores(f"{place}: {batch} sequences, {len(lengths)} prompt_lengths")
    of = _binary(place, line) if line.logprobs_b64 else _nested(place, line)
    for number, (ids, scores) in enumerate(of):
        tokens, prompt = line.sequences[number], lengths[number]
        where = f"{place}, sequence {number}" if number else place
        count = len(tokens) - prompt
        if not 0 <= count <= len(scores) or prompt < 0:
            raise BadScores(
                f"{where}: {len(tokens)} tokens, a prompt of {prompt} and "
                f"{len(scores)} scores"
            )
        # Those of token i stand at i - 1 here; the first token of all has none.
        places: list[Entries | None] = [None] * prompt
        places += [_entries(*x) for x in zip(ids[:count], scores[:count], strict=True)]
        yield from_places(tokens, places[1:], place=where)


def _entries(ids: Sequence[int], scores: Sequence[float | None]) -> Entries:
    pairs = zip(ids, scores, strict=True)
    return [(i, s) for i, s in pairs if s is not None and s > -math.inf]


def _nested(place: str, line: Line) -> Iterator[tuple[Any, Any]]:
    scores, ids = line.logprobs, line.logprob_token_ids
    if scores is None or ids is None:
        raise BadScores(f"{place}: holds neither logprobs nor logprobs_b64")
    batch, k = len(line.sequences), line.top_logprobs
    if not len(scores) == len(ids) == batch:
        raise BadScores(f"{place}: scores of {len(scores)} of {batch} sequences")
    try:
        for some_ids, some in zip(ids, scores, strict=True):
            if [len(x) for x in some_ids] != [len(x) for x in some]:
                raise BadScores(f"{place}: not as many ids as scores")
            yield [x[:k] for x in some_ids], [x[:k] for x in some]
    except TypeError:
        raise BadScores(f"{place}: logprobs must be lists of lists of lists") from None


def _binary(place: str, line: Line) -> Iterator[tuple[Any, Any]]:
    if line.shape is None or line.token_ids_b64 is None or line.logprobs_b64 is None:
        raise BadScores(f"{place}: logprobs_b64 without token_ids_b64 and shape")
    try:
        scores, ids = (
            np.frombuffer(base64.b64decode(text, validate=True), dtype).reshape(
                line.shape
            )
            for text, dtype in ((line.logprobs_b64, "<f4"), (line.token_ids_b64, "<i4"))
        )
    except (binascii.Error, ValueError):
        raise BadScores(
            f"{place}: logprobs_b64 and token_ids_b64 are no arrays of shape "
            f"{list(line.shape)}"
        ) from None
    if len(scores) != len(line.sequences):
        raise BadScores(
            f"{place}: scores of {len(scores)} of {len(line.sequences)} sequences"
        )
    yield from zip(ids.tolist(), scores.tolist(), strict=True)
