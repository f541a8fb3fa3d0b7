"""Dataset of rows of two sequences, each a completion after a prompt."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Dataset
from runner.data.text.tokens import Tokens
from runner.data.text.vocabulary import Vocabulary

FORMAT = 1  # version of the rows' arrays, part of the fingerprint


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class PromptedRows(Dataset):
    """Rows of `sequence_length` positions: half for either sequence, padded at the end.

    The first sequence is segment 1, the second segment 2. A sequence of n ids takes
    n - 1 positions; its targets are those of the completion, its end among them. One
    that is too long loses the start of its prompt, down to a quarter of the row, then
    the end of its completion; the prompt is the same in both.

    Attributes:
      pieces: Ids of prompts, each with the begin before it, and of completions, each
        with the end after it.
      prompts: `[rows]`, number of the prompt among the pieces.
      completions: `[rows 2]`, numbers of the completions.
      vocabulary: Of the ids.
      sequence_length: Positions in a row.
      description: Further entries of `describe`.
    """

    pieces: Tokens
    prompts: np.ndarray
    completions: np.ndarray
    vocabulary: Vocabulary  # pyright: ignore[reportIncompatibleVariableOverride] - narrower
    sequence_length: int
    description: Mapping[str, Any]

    unit: ClassVar[str] = "token"

    @property
    def num_all(self) -> int:
        return len(self.prompts)

    @property
    def targets_per_row(self) -> int:
        return self.sequence_length

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return tokens, targets, mask, segment_ids, positions, each `[b T]`."""
        shape = (len(numbers), self.sequence_length)
        end = self.vocabulary.end
        rows = {
            "tokens": np.full(shape, end, np.int32),
            "targets": np.full(shape, end, np.int32),
            "mask": np.zeros(shape, bool),
            "segment_ids": np.zeros(shape, np.int32),
            "positions": np.zeros(shape, np.int32),
        }
        for row, number in enumerate(numbers.tolist()):
            for place in range(2):
                self._write(rows, row, number, place)
        return rows

    def _write(
        self, rows: dict[str, np.ndarray], row: int, number: int, place: int
    ) -> None:
        """Write one sequence of a stored row into its half."""
        prompt = self._piece(self.prompts[number])
        completion = self._piece(self.completions[number, place])
        keep = int(self._prompt_lengths[number])
        prompt = np.concatenate([prompt[:1], prompt[len(prompt) - keep + 1 :]])
        ids = np.concatenate([prompt, completion])[: self._half + 1].astype(np.int32)
        start, length = place * self._half, len(ids) - 1
        part = (row, slice(start, start + length))
        rows["tokens"][part] = ids[:-1]
        rows["targets"][part] = ids[1:]
        rows["mask"][part] = np.arange(1, length + 1) >= len(prompt)
        rows["segment_ids"][part] = place + 1
        rows["positions"][part] = np.arange(length)

    @property
    def _half(self) -> int:
        """Positions of one sequence."""
        return self.sequence_length // 2

    @functools.cached_property
    def _lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids of each row's prompt, and of the longer of its completions."""
        lengths = np.diff(self.pieces.offsets)
        return lengths[self.prompts], lengths[self.completions].max(axis=1)

    @functools.cached_property
    def _prompt_lengths(self) -> np.ndarray:
        """Ids that each row's prompt keeps, its begin among them."""
        prompt, completion = self._lengths
        room = np.maximum(self._half + 1 - completion, max(self._half // 2, 1))
        return np.minimum(prompt, room)

    @property
    def num_cut(self) -> int:
        """Stored rows that have lost a part of the prompt or of a completion."""
        prompt, completion = self._lengths
        return int(np.sum(prompt + completion - 1 > self._half))

    def _piece(self, number: int) -> np.ndarray:
        offsets = self.pieces.offsets
        return self.pieces.ids[offsets[number] : offsets[number + 1]]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of vocabulary, ids, the order of the pieces and the format of rows."""
        return self.digest(
            f"retort prompted rows {FORMAT} {self.vocabulary.digest} "
            f"{self.vocabulary.end} {self.sequence_length} ",
            self.pieces.offsets,
            self.pieces.ids,
            self.prompts.astype("<i8"),
            self.completions.astype("<i8"),
        )

    def describe(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "rows": len(self),
            "cut": self.num_cut,
            "sequence_length": self.sequence_length,
            "vocabulary": self.vocabulary.describe(),
            **self.description,
        }
