"""Answers of SGLang's `/generate`.

Read at SGLang's `tokenizer_manager.py` of 2025 and 2026, not run. Asked with

    {"input_ids": ids, "return_logprob": true, "logprob_start_len": 0,
     "top_logprobs_num": k, "sampling_params": {"max_new_tokens": 1}}

`meta_info.input_top_logprobs[i]` is of token i itself given those before it, the first
null: entries move by one place here. Exactly k, `[logprob, id, text]`, best first;
natural logarithms over the whole vocabulary, of logits before the temperature. The ids
are those of `meta_info.input_token_logprobs`, so nothing of what was asked is wanted.
Without `logprob_start_len` the prompt is not scored. Entries of generated tokens are
left out: those are taken after the temperature, which an answer does not repeat.

A line is an answer, or a list of them, as a request of several prompts gives.
"""

import dataclasses
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
from runner.files import form


@dataclasses.dataclass(frozen=True)
class MetaInfo:
    """SGLang's numbers of an answer beside its text."""

    input_token_logprobs: Sequence[Any] | None = None
    input_top_logprobs: Sequence[Any] | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer."""

    meta_info: MetaInfo


def read(source: Path) -> Scores:
    """Return the scores of a file of answers, or of a folder of such files."""
    return Scores(teacher="unknown, SGLang", sequences=_sequences(source))


def _sequences(source: Path) -> Iterator[Scored]:
    for place, value in json_lines.values(source):
        answers = value if isinstance(value, list) else [value]
        for number, answer in enumerate(answers):
            where = f"{place}, answer {number}" if number else place
            with json_lines.at(where):
                yield _scored(where, form.parse(Answer, answer).meta_info)


def _scored(place: str, meta: MetaInfo) -> Scored:
    tokens, scores = meta.input_token_logprobs, meta.input_top_logprobs
    if not tokens or not scores:
        raise BadScores(
            f"{place}: holds no scores of its prompt; ask with return_logprob=true, "
            "top_logprobs_num=k and logprob_start_len=0"
        )
    if len(tokens) != len(scores):
        raise BadScores(
            f"{place}: input_top_logprobs has {len(scores)} places, "
            f"input_token_logprobs {len(tokens)}"
        )
    try:
        ids = [int(x[1]) for x in tokens]
        places = [None if x is None else _entries(x) for x in scores[1:]]
    except (IndexError, KeyError, TypeError, ValueError):
        raise BadScores(
            f"{place}: logprobs must hold null or [logprob, id, text]"
        ) from None
    return from_places(ids, places, place=place)


def _entries(scores: Sequence[Any]) -> Entries:
    return [(int(x[1]), x[0]) for x in scores]
