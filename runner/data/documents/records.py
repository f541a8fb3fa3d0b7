"""Records: rows of named values, of which one column may be the documents."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.data.documents.document import Document, Documents
from runner.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Record:
    """Named values of one row of a table.

    Attributes:
      name: The same on every machine.
      place: Where it is read from, for messages: `chats.jsonl:7`.
      values: By column.
    """

    name: str
    place: str
    values: Mapping[str, Any]

    def value(self, column: str) -> Any:
        """Return the value of a column.

        Raises:
          UserError: There is no such column; with the nearest.
        """
        if column not in self.values:
            raise UserError(
                f"{self.place}: no field {column!r}{nearest(column, self.values)}"
            )
        return self.values[column]

    def text(self, column: str) -> str:
        """Return the string of a column.

        Raises:
          UserError: There is no such column, or it holds no text.
        """
        text = self.value(column)
        if not isinstance(text, str):
            kind = type(text).__name__
            raise UserError(
                f"{self.place}: field {column!r} must be a string, got {kind}"
            )
        require_unicode(text, f"{self.place}: field {column!r}")
        return text


class Records(Documents):
    """Rows of named values in a fixed order, read anew by each call of `records`."""

    @property
    @abc.abstractmethod
    def text_column(self) -> str:
        """Column whose strings are the documents."""

    @abc.abstractmethod
    def records(self, columns: Sequence[str] = ()) -> Iterator[Record]:
        """Yield the rows.

        Args:
          columns: The ones that are used; the others may be left out. Those that a
            table does not have are left out too. None named: all of them.

        Raises:
          UserError: A file cannot be read, or its content is not valid.
        """

    def __iter__(self) -> Iterator[Document]:
        for record in self.records((self.text_column,)):
            yield Document(name=record.name, text=record.text(self.text_column))


def require_unicode(text: str, place: str) -> None:
    """Refuse text that UTF-8 cannot spell, as JSON can.

    Raises:
      UserError: With the place.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place} holds half a surrogate pair") from error
