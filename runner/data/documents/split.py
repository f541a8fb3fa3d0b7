"""A part of other documents, chosen by the hash of what they say."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar, get_args

from runner.data.documents.document import Document, Documents
from runner.data.documents.records import Record, Records
from runner.errors import UserError, nearest

Side = Literal["train", "held_out"]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Split(Records):
    """The documents that are held out, or the others.

    A hash of its content decides where a document is: the same in every run and order,
    and equal documents are on one side, so that none is in both.

    Attributes:
      documents: All of them; `Records` where the rows are conversations.
      part: "train" or "held_out".
      share: Of the documents that are held out, nearly.

    Raises:
      UserError: There is no such part, or no document is in it; the share is not
        between 0 and 1.
    """

    documents: Documents
    part: Side = "train"
    share: float = 0.01

    def __post_init__(self) -> None:
        if self.part not in get_args(Side):
            raise UserError(
                f"part is {self.part!r}{nearest(self.part, get_args(Side))}"
            )
        if not 0 < self.share < 1:
            raise UserError(f"share must be between 0 and 1, got {self.share}")

    def check(self) -> None:
        self.documents.check()

    def describe(self) -> Mapping[str, str]:
        return {**self.documents.describe(), "part": self.part}

    @property
    def text_column(self) -> str:
        return self._records().text_column

    def __iter__(self) -> Iterator[Document]:
        return self._of_part((one, one.text) for one in self.documents)

    def records(self, columns: Sequence[str] = ()) -> Iterator[Record]:
        def content(record: Record) -> str:
            says = {
                name: x
                for name, x in record.values.items()
                if x is not None and (not columns or name in columns)
            }
            return json.dumps(says, sort_keys=True, default=str)

        return self._of_part((r, content(r)) for r in self._records().records(columns))

    def _of_part(self, contents: Iterable[tuple[T, str]]) -> Iterator[T]:
        chosen = others = 0
        for one, content in contents:
            if self._includes(content):
                chosen += 1
                yield one
            else:
                others += 1
        # Of few documents a part may have none, by chance.
        if others and not chosen:
            raise UserError(
                f"of {others:,} documents none is in the part {self.part!r} at "
                f"share={self.share}; choose another share, or give more documents "
                "(of files of text: separator=)"
            )

    def _records(self) -> Records:
        if not isinstance(self.documents, Records):
            kind = type(self.documents).__name__
            raise UserError(f"{kind} has texts, and no records with columns")
        return self.documents

    def _includes(self, content: str) -> bool:
        hashed = hashlib.blake2b(
            content.encode(errors="surrogatepass"), digest_size=8
        ).digest()
        held_out = int.from_bytes(hashed, "big") < self.share * 2**64
        return held_out == (self.part == "held_out")
