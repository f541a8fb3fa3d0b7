"""Rows of conversations: their ids, and which of them the assistant writes."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from runner.data.dataset import Dataset
from runner.data.text.tokens import Tokens
from runner.data.text.vocabulary import Vocabulary


class Placed(NamedTuple):
    """A conversation in a row.

    Attributes:
      number: Of the conversation.
      segment: Its id in the row, from 1.
      start: Its first position.
    """

    number: int
    segment: int
    start: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ConversationRows(Dataset):
    """Rows of `sequence_length` positions, in which conversations stand whole.

    A conversation of `n` ids takes `n - 1` positions: inputs are all but the last,
    targets all but the first. A target counts where the assistant writes it.

    Attributes:
      tokens: `2 · id + learned` of each conversation; `document_bytes` are the messages
        that were left out of it.
      vocabulary: Of the ids.
      sequence_length: Positions in a row.
      source: Digest of the conversations and of what writes them as ids.
      description: Further entries of `describe`.
    """

    tokens: Tokens
    vocabulary: Vocabulary  # pyright: ignore[reportIncompatibleVariableOverride] - narrower
    sequence_length: int
    source: str
    description: Mapping[str, Any]

    unit: ClassVar[str] = "token"

    @abc.abstractmethod
    def placed(self, row: int) -> Iterator[Placed]:
        """Yield the conversations of a stored row."""

    @property
    def targets_per_row(self) -> int:
        return self.sequence_length

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows, each array `[b, sequence_length]`.

        Returns:
          `tokens`, `targets`: int32; the end of a document at padding.
          `mask`: bool, true at targets that the assistant writes.
          `segment_ids`: int32, 0 at padding.
          `positions`: int32, 0 where a conversation begins.
        """
        shape = (len(numbers), self.sequence_length)
        rows = {
            name: np.zeros(shape, np.int32) for name in ("segment_ids", "positions")
        }
        for name in ("tokens", "targets"):
            rows[name] = np.full(shape, self.vocabulary.end, np.int32)
        rows["mask"] = np.zeros(shape, bool)
        for row, number in enumerate(numbers.tolist()):
            for conversation, segment, start in self.placed(number):
                ids, learned = self.conversation(conversation)
                length = len(ids) - 1
                place = (row, slice(start, start + length))
                rows["tokens"][place], rows["targets"][place] = ids[:-1], ids[1:]
                rows["mask"][place] = learned[1:]
                rows["segment_ids"][place] = segment
                rows["positions"][place] = np.arange(length)
        return rows

    def conversation(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of a conversation, `[n]`, and whether each is learned."""
        start, stop = self.tokens.offsets[number : number + 2]
        both = self.tokens.ids[start:stop]
        return both >> 1, (both & 1).astype(bool)
