"""Text of a student's tokens, in the tokens of another vocabulary."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np

from runner.aligning.spans import ends_of
from runner.data.text.vocabulary import Vocabulary

_NOT_UTF8 = re.compile("[\udc80-\udcff]+")


@dataclasses.dataclass(frozen=True)
class Run:
    """Text between special tokens, as a tokenizer reads it.

    Attributes:
      text: valid UTF-8.
      start: its place in the units of the whole.
    """

    text: str
    start: int


@dataclasses.dataclass(frozen=True)
class Special:
    """A special token of both sides.

    Attributes:
      token: the teacher's id.
      start: its place in the units of the whole.
    """

    token: int
    start: int


def runs_of(data: bytes, start: int) -> Iterator[Run]:
    """Yield the parts of some bytes that are text: a row may begin amid a character."""
    text = data.decode(errors="surrogateescape")
    at = 0
    for part in re.split(f"({_NOT_UTF8.pattern})", text):
        size = len(part.encode(errors="surrogateescape"))
        if part and not _NOT_UTF8.match(part):
            yield Run(text=part, start=start + at)
        at += size


def prefix_of(vocabulary: Vocabulary) -> bytes:
    """Return what a tokenizer puts before each text: b" ", or nothing."""
    pieces = b"".join(vocabulary.pieces[i] for i in vocabulary.encode("a").tolist())
    return pieces[:-1] if pieces.endswith(b"a") else b""


def encoded(
    vocabulary: Vocabulary, runs: Sequence[Run], *, prefix: bytes
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the ids of each text and where they end, `[n]` each, in units.

    Where a tokenizer normalizes a text, what its tokens spell is another one: from the
    first byte that differs, only the last token ends at a place of the text.

    Args:
      vocabulary: to encode with.
      runs: texts.
      prefix: what its tokenizer puts before each.
    """
    all_ids = vocabulary.encode_all(run.text for run in runs)
    for run, ids in zip(runs, all_ids, strict=True):
        data = run.text.encode()
        pieces = [vocabulary.pieces[i] for i in ids.tolist()]
        lengths = np.array([len(piece) for piece in pieces], np.int64)
        spelled = b"".join(pieces)
        if prefix and len(ids) and spelled.startswith(prefix):
            spelled = spelled[len(prefix) :]
            lengths[0] -= len(prefix)
        ends = ends_of(lengths, start=run.start)
        if spelled != data:
            same = run.start + common_prefix(spelled, data)
            ends = np.where(ends > same, np.minimum(ends, same) + 0.5, ends)
            ends[-1:] = run.start + len(data)
        yield ids.astype(np.int64), ends


def common_prefix(a: bytes, b: bytes) -> int:
    """Return how many first bytes of both are the same."""
    size = min(len(a), len(b))
    differ = np.frombuffer(a[:size], np.uint8) != np.frombuffer(b[:size], np.uint8)
    return int(differ.argmax()) if differ.any() else size
