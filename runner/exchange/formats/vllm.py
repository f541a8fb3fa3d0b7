"""Answers of vLLM's `/v1/completions`, and of servers that speak as it does.

Read at vLLM 030ea52 (2026): `vllm/entrypoints/openai/completion/serving.py`. Asked with

    {"prompt": ids, "max_tokens": 1, "prompt_logprobs": k, "return_token_ids": true}

`prompt_logprobs[i]` is of token i itself given those before it, so the first is null
and entries move by one place here. It holds the k best, and token i too where that is
none of them: k or k + 1 entries, by text of their ids. The one more, told by its
`rank`, is left out: it would say of any scores that they foresaw the text. Logarithms
are natural, over the whole vocabulary, of logits before the temperature, whatever was
asked (`logprobs_mode` `raw_logprobs`, the default; of a prompt the processed ones are
equal). -inf is written as -9999. With `logprobs` and `return_tokens_as_token_ids` the
entries of generated tokens are read too, of which the first is of the token after the
prompt. Their keys are text otherwise, which several ids can share: such answers are
refused.

Three forms of a line: the response; that of `vllm run-batch` and of OpenAI's batches,
which has it at `response.body`; or one choice. Ids that the response does not repeat
(`return_token_ids` off) are taken from `prompt` or `prompt_token_ids` of the line.
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
from runner.files import form

LEAST = -9999.0  # stands for -inf
TOKEN_ID = "token_id:"


# Entries are many: what they hold is checked as it is turned into numbers.
@dataclasses.dataclass(frozen=True)
class Generated:
    """`logprobs` of a choice: entries of the generated tokens, by text."""

    top_logprobs: Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of `choices`."""

    prompt_logprobs: Sequence[Any] | None = None
    prompt_token_ids: Sequence[int] | None = None
    token_ids: Sequence[int] | None = None
    logprobs: Generated | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response."""

    choices: Sequence[Choice]
    model: str = "unknown"


@dataclasses.dataclass(frozen=True)
class Line:
    """One line: a response in one of its three forms, and maybe what was asked."""

    choices: Sequence[Choice] | None = None
    model: str = "unknown"
    response: Mapping[str, Any] | None = None
    prompt: Any = None
    prompt_token_ids: Sequence[int] | None = None
    prompt_logprobs: Sequence[Any] | None = None
    token_ids: Sequence[int] | None = None
    logprobs: Generated | None = None


def read(source: Path) -> Scores:
    """Return the scores of a file of answers, or of a folder of such files."""
    lines = json_lines.read(source, Line)
    model, lines = json_lines.peek(lines, lambda line: _answer(*line).model)
    return Scores(teacher=f"{model}, vLLM", sequences=_sequences(lines))


def _sequences(lines: Iterator[tuple[str, Line]]) -> Iterator[Scored]:
    for place, line in lines:
        answer = _answer(place, line)
        for number, choice in enumerate(answer.choices):
            where = f"{place}, choice {number}" if number else place
            yield scored(where, choice, _asked(line, number, len(answer.choices)))


def _answer(place: str, line: Line) -> Answer:
    if line.choices is not None:
        return Answer(line.choices, line.model)
    if line.response is not None:
        with json_lines.at(place):
            body = line.response.get("body", line.response)
            return form.parse(Answer, body, "response.body")
    fields = dataclasses.fields(Choice)
    return Answer([Choice(**{x.name: getattr(line, x.name) for x in fields})])


def _asked(line: Line, number: int, count: int) -> Sequence[int] | None:
    """The prompt of one choice, of what was asked."""
    if line.prompt_token_ids is not None:
        return line.prompt_token_ids
    prompt = line.prompt
    if not isinstance(prompt, list) or not prompt:
        return None
    if isinstance(prompt[0], list):
        per_prompt = max(count // len(prompt), 1)
        prompt = prompt[min(number // per_prompt, len(prompt) - 1)]
    return prompt if all(type(x) is int for x in prompt) else None


def scored(place: str, choice: Choice, asked: Sequence[int] | None) -> Scored:
    """Return the scores of one choice.

    Args:
      place: For messages.
      choice: Of a response.
      asked: Ids of the prompt, where the choice does not repeat them.

    Raises:
      BadScores: It holds none, or no ids.
    """
    prompt = choice.prompt_token_ids or asked
    if prompt is None:
        raise BadScores(
            f"{place}: holds no ids of its prompt; ask with return_token_ids=true, or "
            "put the ids into each line as prompt_token_ids"
        )
    scores = choice.prompt_logprobs or [None] * len(prompt)
    if len(scores) != len(prompt):
        raise BadScores(
            f"{place}: prompt_logprobs has {len(scores)} places, the prompt "
            f"{len(prompt)} tokens"
        )
    tokens, places = list(prompt), [_entries(place, x) for x in scores[1:]]
    if choice.logprobs is not None:
        generated = choice.logprobs.top_logprobs
        if generated and generated[0] is None:  # `echo`: the prompt comes first
            generated = generated[len(prompt) :]
        tokens += choice.token_ids or ()
        # Without their ids, what follows the first of them is of nobody knows what.
        known = generated[: len(tokens) - len(prompt) + 1]
        places += [_generated(place, x) for x in known]
    if not any(places):
        raise BadScores(f"{place}: holds no scores; was prompt_logprobs=k asked?")
    return from_places(tokens, places, place=place)


def _entries(place: str, scores: Any) -> Entries | None:
    if scores is None:
        return None
    try:
        return [
            (int(key), _log(x["logprob"]))
            for key, x in scores.items()
            if (x.get("rank") or 0) <= len(scores)  # else it is there as the token
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadScores(
            f"{place}: prompt_logprobs must hold null or "
            '{"ID": {"logprob": ...}, ...} a token'
        ) from None


def _generated(place: str, scores: Any) -> Entries | None:
    if scores is None:
        return None
    try:
        named = [(key.removeprefix(TOKEN_ID), _log(x)) for key, x in scores.items()]
    except (AttributeError, TypeError):
        raise BadScores(
            f"{place}: top_logprobs must hold null or numbers by token"
        ) from None
    if not all(key.startswith(TOKEN_ID) for key in scores):
        raise BadScores(
            f"{place}: keys of top_logprobs are texts, which several ids share; ask "
            "with return_tokens_as_token_ids=true"
        )
    return [(int(key), value) for key, value in named]


def _log(value: float) -> float:
    return -math.inf if value <= LEAST else value
