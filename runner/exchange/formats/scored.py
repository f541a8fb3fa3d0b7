"""Sequences that a teacher scored, as every format gives them.

Entries at place i are of the token that follows `tokens[: i + 1]`, as in our rows:
formats that keep the score of a token beside the token itself are moved by one.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from runner.records.layout import LARGEST

_TOO_LARGE = 1e30  # of a logit

Entries = Sequence[tuple[int, float]]
"""Ids and log-probabilities (or logits) of one place, in any order."""


class BadScores(ValueError):
    """A file does not hold what its format promises; the message is one line."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One sequence, and its teacher's entries at some of its places.

    Attributes:
      tokens: `[n]` int32, ids that the teacher read.
      ids: `[m k]` int32, m at most n; `ids[i]` are entries of the token after
        `tokens[i]`.
      scores: `[m k]` float64, natural logarithms of probabilities, or logits; -inf
        where there is no entry. A place without any was not scored.
      place: Where it stands, for messages: `answers.jsonl, line 3`.
    """

    tokens: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
    place: str

    @property
    def counts(self) -> np.ndarray:
        """`[m]`, number of entries at each place."""
        return (self.scores > -math.inf).sum(-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """All sequences of a source, and what its format says of their scores.

    Attributes:
      teacher: Its name, for people.
      sequences: Read as they are asked for.
      normalized: True for log-probabilities over the whole vocabulary, so that the
        mass outside of the entries is known; false for logits, or log-probabilities
        over the entries alone.
      temperature: At which the scores were taken; None where the source does not say.
      rounding: Relative error of a stored score.
    """

    teacher: str
    sequences: Iterator[Scored]
    normalized: bool = True
    temperature: float | None = 1.0
    rounding: float = 2.0**-24


def from_places(
    tokens: Sequence[int], places: Sequence[Entries | None], *, place: str
) -> Scored:
    """Return a sequence of entries by place, each as many as there are; None of none.

    Raises:
      BadScores: An id stands twice at a place, or something is no number.
    """
    width = max((len(entries) for entries in places if entries), default=0)
    ids = np.zeros((len(places), width), np.int64)
    scores = np.full((len(places), width), -math.inf)
    for i, entries in enumerate(places):
        if not entries:
            continue
        names, values = zip(*entries, strict=True)
        if len(set(names)) < len(names):
            raise BadScores(f"{place}: position {i} names an id twice")
        try:
            ids[i, : len(names)], scores[i, : len(names)] = names, values
        except (OverflowError, TypeError, ValueError):
            raise BadScores(f"{place}: position {i} holds no numbers") from None
    return checked(tokens, ids, scores, place=place)


def checked(tokens: Any, ids: Any, scores: Any, *, place: str) -> Scored:
    """Return a sequence whose numbers can be ids and scores.

    Raises:
      BadScores: An id is outside of any vocabulary, a score NaN or +inf, or there are
        more places than tokens.
    """
    tokens, ids = np.asarray(tokens), np.asarray(ids)
    for name, array in {"tokens": tokens, "ids": ids}.items():
        if array.size and not 0 <= array.min() <= array.max() < LARGEST:
            worst = array.min() if array.min() < 0 else array.max()
            raise BadScores(f"{place}: {name} hold {worst}, which is no id")
    scores = np.asarray(scores, np.float64)
    if not (scores < _TOO_LARGE).all():
        raise BadScores(f"{place}: a score is not a finite number")
    if len(scores) > len(tokens):
        raise BadScores(f"{place}: scores at {len(scores)} of {len(tokens)} tokens")
    return Scored(
        tokens=tokens.astype(np.int32),
        ids=ids.astype(np.int32),
        scores=scores,
        place=place,
    )


def by_segment(scored: Scored, segment_ids: np.ndarray) -> Iterator[Scored]:
    """Yield what each document has of a packed row; padding (0) is left out.

    Args:
      scored: The row.
      segment_ids: `[n]`, equal where a document goes on.
    """
    begins = np.flatnonzero(np.diff(segment_ids, prepend=segment_ids[:1] - 1))
    ends = [*begins[1:].tolist(), len(segment_ids)]
    for begin, end in zip(begins.tolist(), ends, strict=True):
        if segment_ids[begin]:
            part = slice(begin, end)
            yield dataclasses.replace(
                scored,
                tokens=scored.tokens[part],
                ids=scored.ids[part],
                scores=scored.scores[part],
            )
