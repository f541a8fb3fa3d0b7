"""The two ways of servers to score given tokens, found out by asking.

* `PromptLogprobs`: `/v1/completions` with `prompt_logprobs=k` (vLLM and its like)
  scores a whole prompt: all segments of a row are one request.
* `TokenByToken`: `/completion` with `n_probs=k` (llama.cpp's server) scores the token
  after a prompt alone, before temperature and samplers: a request a position, each
  with the prompt of the one before cached. The same server takes `prompt_logprobs`
  without a word and ignores it. It gives no scores where the token that it draws is a
  part of a character, so it is made to draw a letter: `logit_bias` moves the draw, and
  leaves scores before samplers as they are (build 11549, run).

Which one it is says the first answer, not a name. Answers are read by the code that
imports them from files (`runner.exchange.formats`).
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError
from runner.exchange.formats import llama_cpp, vllm
from runner.exchange.formats.scored import BadScores, Scored, from_places
from runner.files import form
from runner.served.client import Client, Refused

_SAME_PIECES = 0.9  # of an answer's best entries, by their text
_SURELY = 1000.0  # added to a logit, nats


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol(abc.ABC):
    """Form of requests for the scores of token sequences.

    Attributes:
      client: The server.
      model: Its name there.
      best: Entries wanted of each place.
      letter: Id of a whole character.
    """

    client: Client
    model: str
    best: int
    letter: int

    @abc.abstractmethod
    def score(self, sequences: Sequence[Sequence[int]]) -> list[Scored]:
        """Return the scores of each sequence: places 0 to its last but one.

        Raises:
          BadScores: The answer is not what was asked for.
          Refused: The server will not.
        """

    @abc.abstractmethod
    def pieces(self, tokens: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return ids and texts of the best entries of one place, for a comparison."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptLogprobs(Protocol):
    """`/v1/completions` with `prompt_logprobs`."""

    def score(self, sequences: Sequence[Sequence[int]]) -> list[Scored]:
        choices = self._choices(sequences)
        scored = []
        for tokens, choice in zip(sequences, choices, strict=True):
            if choice.prompt_logprobs is None:
                raise BadScores(f"{self.client.url} scores nothing of a prompt")
            echoed = choice.prompt_token_ids
            if echoed is not None and list(echoed) != list(tokens):
                raise BadScores(f"{self.client.url} read other tokens than were asked")
            alone = dataclasses.replace(choice, logprobs=None)
            scored.append(vllm.scored(self.client.url, alone, tokens))
        return scored

    def pieces(self, tokens: Sequence[int]) -> list[tuple[int, bytes]]:
        (choice,) = self._choices([tokens])
        last = (choice.prompt_logprobs or [{}])[-1] or {}
        named = ((int(i), x.get("decoded_token")) for i, x in last.items())
        return [(i, text.encode()) for i, text in named if text]

    def _choices(self, sequences: Sequence[Sequence[int]]) -> list[vllm.Choice]:
        answer = self.client.post(
            "/v1/completions",
            {
                "model": self.model,
                "prompt": [list(x) for x in sequences],
                "max_tokens": 1,
                "temperature": 0,
                "prompt_logprobs": self.best,
                "return_token_ids": True,
            },
        )
        try:
            in_order = sorted(answer["choices"], key=lambda x: x.get("index", 0))
            choices = [form.parse(vllm.Choice, x, "choice") for x in in_order]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadScores(f"{self.client.url}: no completion ({error})") from error
        if len(choices) != len(sequences):
            raise BadScores(
                f"{self.client.url} gives {len(choices)} choices for {len(sequences)} "
                "prompts"
            )
        return choices


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenByToken(Protocol):
    """`/completion` with `n_probs`, a request a position."""

    def score(self, sequences: Sequence[Sequence[int]]) -> list[Scored]:
        url = self.client.url
        return [
            from_places(
                tokens,
                [self._entries(tokens[: i + 1]) for i in range(len(tokens) - 1)],
                place=url,
            )
            for tokens in sequences
        ]

    def pieces(self, tokens: Sequence[int]) -> list[tuple[int, bytes]]:
        line = self._ask(tokens)
        entries = (line.completion_probabilities or [{}])[0].get("top_logprobs", ())
        return [(int(x["id"]), bytes(x.get("bytes") or ())) for x in entries]

    def _entries(self, tokens: Sequence[int]) -> list[tuple[int, float]]:
        return list(llama_cpp.entries_after(self.client.url, self._ask(tokens)))

    def _ask(self, tokens: Sequence[int]) -> llama_cpp.Line:
        answer = self.client.post(
            "/completion",
            {
                "model": self.model,
                "prompt": list(tokens),
                "n_predict": 1,
                "n_probs": self.best,
                "temperature": 0,
                "cache_prompt": True,
                "logit_bias": [[self.letter, _SURELY]],
                "post_sampling_probs": False,
            },
        )
        wanted: Mapping[str, Any] = answer if isinstance(answer, dict) else {}
        try:
            return llama_cpp.Line(
                completion_probabilities=wanted["completion_probabilities"]
            )
        except KeyError:
            raise BadScores(f"{self.client.url} gives no n_probs") from None


KINDS = (PromptLogprobs, TokenByToken)


def discover(
    client: Client,
    *,
    model: str,
    best: int,
    tokens: Sequence[int],
    vocabulary: Vocabulary,
) -> Protocol:
    """Return the protocol that the server answers as asked, checked on some tokens.

    Args:
      client: The server.
      model: Its name there.
      best: Entries wanted of each place.
      tokens: Two or more, to ask about.
      vocabulary: Of the data, which must be the server's.

    Raises:
      UserError: It answers neither as asked, or means other tokens by its ids.
    """
    pieces = enumerate(vocabulary.pieces)
    letter = next((index for index, piece in pieces if piece.isalpha()), 0)
    reasons = []
    for kind in KINDS:
        protocol = kind(client=client, model=model, best=best, letter=letter)
        try:
            (scored,) = protocol.score([tokens])
            _check_entries(scored, min(best, vocabulary.size))
        except (BadScores, Refused) as error:
            reasons.append(" ".join(map(str, error.args)).replace(client.url, "it"))
            continue
        _check_pieces(protocol, tokens, vocabulary)
        return protocol
    raise UserError(
        f"teacher: {client.url} does not score given tokens: prompt_logprobs: "
        f"{reasons[0]}; n_probs: {reasons[1]}"
    )


def _check_entries(scored: Scored, wanted: int) -> None:
    """Refuse answers of fewer entries than were asked for.

    Raises:
      BadScores: With both numbers.
    """
    fewest = int(scored.counts.min(initial=wanted))
    if len(scored.counts) == 0 or fewest < wanted:
        raise BadScores(f"{fewest} entries a place where {wanted} were asked for")


def _check_pieces(
    protocol: Protocol, tokens: Sequence[int], vocabulary: Vocabulary
) -> None:
    """Refuse a server whose ids are other texts than the data's.

    Raises:
      UserError: With an id and both its texts.
    """
    compared, other = 0, []
    for index, text in protocol.pieces(tokens):
        if index >= vocabulary.size:
            raise UserError(
                f"teacher: {protocol.client.url} names id {index}, the data has "
                f"{vocabulary.summary}"
            )
        piece = vocabulary.pieces[index]
        # Parts of characters are replaced where texts are not given as bytes.
        if piece and text and b"\xef\xbf\xbd" not in text:
            compared += 1
            if text.strip() != piece.strip():
                other.append((index, text, piece))
    if compared and len(other) > (1 - _SAME_PIECES) * compared:
        index, text, piece = other[0]
        raise UserError(
            f"teacher: {protocol.client.url} has another tokenizer: its id {index} is "
            f"{text!r}, the data's {piece!r}"
        )
