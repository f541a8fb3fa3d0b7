"""Tokens that two vocabularies share: the same bytes, the same name, the same end."""

import dataclasses

import numpy as np

from runner.data.text.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class SharedTokens:
    """Pairs of ids that mean the same, by the student's ids.

    Attributes:
      student: `[k]` int32, ascending.
      teacher: `[k]` int32.
    """

    student: np.ndarray
    teacher: np.ndarray

    @classmethod
    def of(cls, student: Vocabulary, teacher: Vocabulary) -> "SharedTokens":
        """Return the tokens of equal meaning; both ends of a document are one token.

        Of several ids of one meaning on either side, the first counts.
        """
        by_meaning: dict[tuple[bool, bytes], int] = {}
        for index in reversed(range(teacher.size)):
            if meaning := teacher.meaning(index):
                by_meaning[index in teacher.special, meaning] = index
        pairs: dict[int, int] = {}
        for index in reversed(range(student.size)):
            meaning = student.meaning(index)
            key = (index in student.special, meaning or b"")
            if meaning and key in by_meaning:
                pairs[by_meaning[key]] = index
        pairs = {own: their for their, own in pairs.items() if own != student.end}
        pairs = {own: their for own, their in pairs.items() if their != teacher.end}
        pairs[student.end] = teacher.end
        ids = np.array(sorted(pairs.items()), np.int32).reshape(-1, 2)
        return cls(student=ids[:, 0], teacher=ids[:, 1])

    def of_special(self, student: Vocabulary) -> np.ndarray:
        """Return the teacher's id of each special id of the student, `[v]`; else -1."""
        ids = np.full(student.size, -1, np.int64)
        special = [
            i for i, own in enumerate(self.student.tolist()) if own in student.special
        ]
        ids[self.student[special]] = self.teacher[special]
        ids[student.end] = self.teacher[np.flatnonzero(self.student == student.end)[0]]
        return ids
