"""Dataset of conversations, laid whole into rows; only replies count."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from runner.data.chat.conversation_rows import ConversationRows, Placed
from runner.data.dataset import Dataset
from runner.data.repeats import Repeats, repeated
from runner.data.text.best_fit import best_fit

_SHOWN_IDS = 24

FORMAT = 1  # version of the rows, part of the fingerprint


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ChatRows(ConversationRows):
    """Rows of conversations, as many in each as fit.

    Attributes:
      conversations: Number of all, those that are left out included.
    """

    conversations: int

    @functools.cached_property
    def _rows(self) -> list[list[int]]:
        """Numbers of the conversations in each row."""
        return best_fit(np.diff(self.tokens.offsets) - 1, self.sequence_length)

    @property
    def num_all(self) -> int:
        return len(self._rows)

    def placed(self, row: int) -> Iterator[Placed]:
        start = 0
        for segment, number in enumerate(self._rows[row], start=1):
            yield Placed(number, segment, start)
            first, after = self.tokens.offsets[number : number + 2].tolist()
            start += after - first - 1

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
