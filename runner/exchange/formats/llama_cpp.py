"""Answers of llama.cpp's server, which scores no prompt: a position a request.

Run at build 11549 (xllamacpp 2026.10.11549). Asked at `/completion` with

    {"prompt": ids, "n_predict": 1, "n_probs": k,
     "temperature": 0, "cache_prompt": true, "logit_bias": [[id, 1000]]}

with `id` that of a letter: it is drawn then, and where a part of a character is drawn
there are no scores at all. Scores are those before the bias. Or asked at
`/v1/completions` with `logprobs` for `n_probs`; `echo` and `prompt_logprobs` are taken
without a word and change nothing. An answer has the k best entries of each token
that it generated, so of the one after the prompt: exactly k, with their ids, natural
logarithms over the whole vocabulary, before temperature and samplers
(`post_sampling_probs` is off). What has no probability is the least float32.

A line is a response, with the ids of what was asked as `prompt` (the response has their
text there) or `prompt_token_ids`. Prompts that grow follow each other: a segment of n
ids is n lines, of its first id, its first two, up to all of them.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
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

_NOTHING = -1e30  # below are what has no probability: the least float32


@dataclasses.dataclass(frozen=True)
class Content:
    """`logprobs` of a choice: entries of generated tokens."""

    content: Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of `choices`, of `/v1/completions`."""

    logprobs: Content | None = None


@dataclasses.dataclass(frozen=True)
class Line:
    """A response of either address, and the ids that were asked."""

    prompt: Any = None
    prompt_token_ids: Sequence[int] | None = None
    model: str = "unknown"
    completion_probabilities: Sequence[Any] | None = None
    choices: Sequence[Choice] | None = None


def read(source: Path) -> Scores:
    """Return the scores of a file of answers, or of a folder of such files."""
    lines = json_lines.read(source, Line)
    model, lines = json_lines.peek(lines, lambda line: line[1].model)
    return Scores(teacher=f"{model}, llama.cpp", sequences=_sequences(lines))


def _sequences(lines: Iterator[tuple[str, Line]]) -> Iterator[Scored]:
    """Yield what lines say together whose prompts begin with one another."""
    tokens: list[int] = []
    places: dict[int, Entries] = {}
    first = ""
    for place, line in lines:
        prompt, entries = _prompt(place, line), entries_after(place, line)
        if places and prompt[: len(tokens)] != tokens:
            yield _scored(tokens, places, first)
            places = {}
        first = first if places else place
        tokens, places[len(prompt) - 1] = prompt, entries
    if places:
        yield _scored(tokens, places, first)


def _scored(tokens: list[int], places: dict[int, Entries], place: str) -> Scored:
    in_order = [places.get(i) for i in range(len(tokens))]
    return from_places(tokens, in_order, place=place)


def _prompt(place: str, line: Line) -> list[int]:
    ids = line.prompt if line.prompt_token_ids is None else line.prompt_token_ids
    if isinstance(ids, str) or not ids or not all(type(x) is int for x in ids):
        raise BadScores(
            f"{place}: holds no ids of its prompt; put those that were asked into each "
            "line as prompt_token_ids"
        )
    return list(ids)


def entries_after(place: str, line: Line) -> Entries:
    """Return the entries of the first token after the prompt.

    Raises:
      BadScores: There are none.
    """
    tokens = line.completion_probabilities
    if tokens is None and line.choices and line.choices[0].logprobs is not None:
        tokens = line.choices[0].logprobs.content
    if not tokens:
        raise BadScores(f"{place}: holds no scores; was n_probs=k asked?")
    if isinstance(tokens[0], Mapping) and "top_probs" in tokens[0]:
        raise BadScores(
            f"{place}: scores are those after the samplers; ask with "
            "post_sampling_probs=false"
        )
    try:
        entries = tokens[0]["top_logprobs"]
        return [(int(x["id"]), _log(x["logprob"])) for x in entries]
    except (KeyError, TypeError, ValueError):
        raise BadScores(
            f'{place}: top_logprobs must hold {{"id": ..., "logprob": ...}}'
        ) from None


def _log(value: float) -> float:
    return -math.inf if value < _NOTHING else value
