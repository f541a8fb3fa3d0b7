"""Spans of text that begin and end with tokens of two tokenizers alike.

Ends of tokens are counted in units of the text: its bytes, and one for each special
token that both have. An end that is no place of the text, such as one amid what a
tokenizer has normalized, is half a unit off: it meets none.
"""

import numpy as np


def common_spans(
    student_ends: np.ndarray, teacher_ends: np.ndarray, *, begin: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each token's span, of both sides, from 1; 0 of none.

    A span lies between two places next to each other at which tokens of both end; both
    have their tokens there, and no other has a token of it.

    Args:
      student_ends: `[n]`, ends of the student's targets, ascending.
      teacher_ends: `[m]`, ends of all tokens of the teacher, ascending.
      begin: where the student's first target begins.
    """
    borders = np.intersect1d(student_ends, teacher_ends)
    borders = borders[(borders > begin) & np.isfinite(borders)]
    if begin == 0 or begin in teacher_ends:
        borders = np.concatenate([[begin], borders])

    def spans(ends: np.ndarray) -> np.ndarray:
        numbers = np.searchsorted(borders, ends, side="left")
        return np.where(numbers < len(borders), numbers, 0)

    return spans(student_ends), spans(teacher_ends)


def ends_of(lengths: np.ndarray, *, start: int = 0) -> np.ndarray:
    """Return where tokens of these lengths end, `[n]` float64.

    A token without a length is part of the one after it; of none, inf.
    """
    ends = np.where(lengths > 0, start + np.cumsum(lengths), np.inf)
    return np.minimum.accumulate(ends[::-1])[::-1]


def without(spans: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Return the spans of tokens without those that a `dropped` token is in."""
    return np.where(np.isin(spans, spans[dropped]), 0, spans)


def first_and_last(spans: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the places of the first and the last token of each wanted span.

    Args:
      spans: of tokens, `[m]`.
      wanted: numbers of spans, `[n]`; of 0, or one that has no token, 0.
    """
    size = int(max(spans.max(initial=0), wanted.max(initial=0))) + 1
    first, last = np.zeros((2, size), np.int64)
    places = np.arange(len(spans))
    last[spans] = places  # of equal indices, the last one stays
    first[spans[::-1]] = places[::-1]
    first[0] = last[0] = 0
    return first[wanted], last[wanted]
