"""Dataset of pairs of conversations, one pair a row."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Dataset
from runner.data.text.tokens import Tokens
from runner.data.text.vocabulary import Vocabulary

FORMAT = 1  # version of the rows, part of the fingerprint


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ChatPairRows(Dataset):
    """Rows of `sequence_length` positions: half for either side, padded at the end.

    The chosen conversation is segment 1, the rejected one segment 2. One of `n` ids
    takes `n - 1` positions; a target counts where the assistant writes it.

    Attributes:
      tokens: `2 · id + learned` of chosen and rejected in turn; `document_bytes` are
        the messages of the prompt that were left out of them.
      vocabulary: Of the ids.
      sequence_length: Positions in a row.
      pairs: Number of all, those that are left out included.
      source: Digest of the pairs and of what writes them as ids.
      description: Further entries of `describe`.
    """

    tokens: Tokens
    vocabulary: Vocabulary  # pyright: ignore[reportIncompatibleVariableOverride] - narrower
    sequence_length: int
    pairs: int
    source: str
    description: Mapping[str, Any]

    unit: ClassVar[str] = "token"

    @property
    def num_all(self) -> int:
        return (len(self.tokens.offsets) - 1) // 2

    @property
    def targets_per_row(self) -> int:
        return self.sequence_length

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return tokens, targets, mask, segment_ids, positions, each `[b T]`."""
        shape = (len(numbers), self.sequence_length)
        rows = {
            name: np.zeros(shape, np.int32) for name in ("segment_ids", "positions")
        }
        for name in ("tokens", "targets"):
            rows[name] = np.full(shape, self.vocabulary.end, np.int32)
        rows["mask"] = np.zeros(shape, bool)
        for row, number in enumerate(numbers.tolist()):
            for side in range(2):
                ids, learned = self.conversation(2 * number + side)
                start, length = side * self.sequence_length // 2, len(ids) - 1
                place = (row, slice(start, start + length))
                rows["tokens"][place], rows["targets"][place] = ids[:-1], ids[1:]
                rows["mask"][place] = learned[1:]
                rows["segment_ids"][place] = side + 1
                rows["positions"][place] = np.arange(length)
        return rows

    def conversation(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of one side, `[n]`, and whether each is learned.

        Args:
          number: Twice that of the pair, and one more for the rejected.
        """
        start, stop = self.tokens.offsets[number : number + 2]
        both = self.tokens.ids[start:stop]
        return both >> 1, (both & 1).astype(bool)

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
