"""Dataset of pairs of conversations, one pair a row."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from runner.data.chat.conversation_rows import ConversationRows, Placed

FORMAT = 1  # version of the rows, part of the fingerprint


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ChatPairRows(ConversationRows):
    """Rows of two conversations: half for either, padded at the end.

    The chosen one is segment 1, the rejected one segment 2. They stand in turn in
    `tokens`, whose `document_bytes` are the messages of the prompt that were left out.

    Attributes:
      pairs: Number of all, those that are left out included.
    """

    pairs: int

    @property
    def num_all(self) -> int:
        return (len(self.tokens.offsets) - 1) // 2

    def placed(self, row: int) -> Iterator[Placed]:
        for side in range(2):
            start = side * self.sequence_length // 2
            yield Placed(2 * row + side, side + 1, start)

    @property
    def cautions(self) -> tuple[str, ...]:
        dropped, cut = self._left_out()
        total = f"of {self.pairs:,} pairs"
        lines = []
        if dropped:
            lines.append(
                f"{dropped:,} {total} do not fit into half a row of "
                f"{self.sequence_length:,} with their last question, and are left out"
            )
        if cut:
            lines.append(
                f"{cut:,} {total} are too long: their first turns are left out"
            )
        return tuple(lines)

    def _left_out(self) -> tuple[int, int]:
        """Return the numbers of pairs left out, and of shortened ones."""
        shortened = int((self.tokens.document_bytes[::2] > 0).sum())
        return self.pairs - self.num_all, shortened

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the pairs, vocabulary, ids, lengths and format of rows."""
        return self.digest(
            f"retort chat pairs {FORMAT} {self.source} {self.vocabulary.digest} "
            f"{self.sequence_length} ",
            self.tokens.offsets,
            self.tokens.ids,
        )

    def describe(self) -> dict[str, Any]:
        dropped, cut = self._left_out()
        return {
            "fingerprint": self.fingerprint,
            "pairs": self.pairs,
            "left_out": dropped,
            "shortened": cut,
            "rows": len(self),
            "sequence_length": self.sequence_length,
            "vocabulary": self.vocabulary.describe(),
            **self.description,
        }
