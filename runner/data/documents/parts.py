"""Documents in parts, each of which is encoded and kept by itself."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from runner.data.documents.document import Digest, Document
from runner.errors import UserError

T = TypeVar("T")

PART_BYTES = 1 << 24
"""Of text, after which a part ends: seconds of work, and all that is in memory."""


Encoded = Iterable[tuple[np.ndarray, int]]
"""Ids of each document, and the bytes of its text."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Documents that follow each other, encoded together.

    Attributes:
      digest: Of their names and contents.
      num_bytes: Of their text.
      encode: Called where this part is not on disk from an earlier run.
    """

    digest: str
    num_bytes: int
    encode: Callable[[], Encoded]


def in_parts(
    items: Iterable[T],
    *,
    documents: Callable[[T], Iterable[Document]],
    encode: Callable[[Sequence[T]], Encoded],
    expected: Digest,
    things: str = "documents",
) -> Iterator[Part]:
    """Yield the items in parts of some 16 MB of text.

    Args:
      items: Documents, conversations, examples, read once.
      documents: What an item is known by.
      encode: Returns the ids of the items of one part.
      expected: Of all documents, from an earlier reading.
      things: Plural of what an item is, for messages.

    Raises:
      UserError: At the end: they are others than those of the earlier reading.
    """
    whole, part = Digest(), Digest()
    batch: list[T] = []
    for item in items:
        for document in documents(item):
            whole.update(document)
            part.update(document)
        batch.append(item)
        if part.bytes >= PART_BYTES:
            yield Part(part.hexdigest(), part.bytes, functools.partial(encode, batch))
            part, batch = Digest(), []
    if batch:
        yield Part(part.hexdigest(), part.bytes, functools.partial(encode, batch))
    if whole.hexdigest() != expected.hexdigest():
        raise UserError(f"the {things} changed while they were read; start again")
