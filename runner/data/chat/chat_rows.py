"""Dataset of conversations, laid whole into rows; only replies count."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Dataset
from runner.data.repeats import Repeats, repeated
from runner.data.text.best_fit import best_fit
from runner.data.text.tokens import Tokens
from runner.data.text.vocabulary import Vocabulary

_SHOWN_IDS = 24

FORMAT = 1  # version of the rows, part of the fingerprint


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ChatRows(Dataset):
    """Rows of `sequence_length` positions, each of whole conversations.

    A conversation of `n` ids takes `n - 1` positions: inputs are all but the last,
    targets all but the first. A target counts where the assistant writes it.

    Attributes:
      tokens: `2 · id + learned` of each conversation; `document_bytes` are the messages
        that were left out of it.
      vocabulary: Of the ids.
      sequence_length: Positions in a row.
      conversations: Number of all, those that are left out included.
      source: Digest of the conversations and of what writes them as ids.
      description: Further entries of `describe`.
    """

    tokens: Tokens
    vocabulary: Vocabulary  # pyright: ignore[reportIncompatibleVariableOverride] - narrower
    sequence_length: int
    conversations: int
    source: str
    description: Mapping[str, Any]

    unit: ClassVar[str] = "token"

    @functools.cached_property
    def _rows(self) -> list[list[int]]:
        """Numbers of the conversations in each row."""
        return best_fit(np.diff(self.tokens.offsets) - 1, self.sequence_length)

    @property
    def num_all(self) -> int:
        return len(self._rows)

    @property
    def targets_per_row(self) -> int:
        return self.sequence_length

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows, each array `[b, sequence_length]`.

        Returns:
          `tokens`, `targets`: int32; the end of a document at padding.
          `mask`: bool, true at targets that the assistant writes.
          `segment_ids`: int32, 1 for the first conversation in the row, 0 at padding.
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
            at = 0
            for segment, conversation in enumerate(self._rows[number], start=1):
                ids, learned = self.conversation(conversation)
                place = (row, slice(at, at + len(ids) - 1))
                rows["tokens"][place], rows["targets"][place] = ids[:-1], ids[1:]
                rows["mask"][place] = learned[1:]
                rows["segment_ids"][place] = segment
                rows["positions"][place] = np.arange(len(ids) - 1)
                at += len(ids) - 1
        return rows

    def conversation(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of a conversation, `[n]`, and whether each is learned."""
        start, stop = self.tokens.offsets[number : number + 2]
        both = self.tokens.ids[start:stop]
        return both >> 1, (both & 1).astype(bool)

    def conversations_in_rows(self) -> np.ndarray:
        """Return the numbers of the conversations in these rows, sorted."""
        chosen = range(self.num_all) if self.selection is None else self.selection
        return np.array(sorted(i for row in chosen for i in self._rows[row]), np.int64)

    def repeats(self, held_out: Dataset) -> Repeats | None:
        """Return the conversations that are equal, id by id."""
        if not isinstance(held_out, ChatRows):
            return None
        if held_out.vocabulary.digest != self.vocabulary.digest:
            return None
        theirs = held_out.conversations_in_rows().tolist()
        ours = self.conversations_in_rows().tolist()
        both = repeated(
            (self.conversation(i)[0] for i in ours),
            (held_out.conversation(i)[0] for i in theirs),
        )
        if not len(both):
            return None
        start = held_out.conversation(theirs[both[0]])[0][:_SHOWN_IDS]
        first = repr(self.vocabulary.decode(start))
        return Repeats(len(both), len(theirs), "conversation", first)

    @property
    def cautions(self) -> tuple[str, ...]:
        dropped, cut = self._left_out()
        total = f"of {self.conversations:,} conversations"
        lines = []
        if dropped:
            lines.append(
                f"{dropped:,} {total} have no reply that fits into a row of "
                f"{self.sequence_length:,}, and are left out"
            )
        if cut:
            lines.append(f"{cut:,} {total} are too long: their last turns are left out")
        return tuple(lines)

    def _left_out(self) -> tuple[int, int]:
        """Return the numbers of conversations left out, and of shortened ones."""
        left = len(self.tokens.offsets) - 1
        return self.conversations - left, int((self.tokens.document_bytes > 0).sum())

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the conversations, vocabulary, ids, lengths and format of rows."""
        return self.digest(
            f"retort chat rows {FORMAT} {self.source} {self.vocabulary.digest} "
            f"{self.sequence_length} ",
            self.tokens.offsets,
            self.tokens.ids,
        )

    def describe(self) -> dict[str, Any]:
        dropped, cut = self._left_out()
        return {
            "fingerprint": self.fingerprint,
            "conversations": self.conversations,
            "left_out": dropped,
            "shortened": cut,
            "tokens": len(self.tokens.ids),
            "learned_tokens": int((self.tokens.ids & 1).sum()),
            "rows": len(self),
            "sequence_length": self.sequence_length,
            "vocabulary": self.vocabulary.describe(),
            **self.description,
        }
