"""ArrayRecord files of texts as records and documents."""

import dataclasses
from collections.abc import Iterator, Sequence

from runner.data.documents import array_record_file
from runner.data.documents.records import Record, Records
from runner.data.paths import resolve
from runner.errors import UserError
from runner.files import tf_example

_WHOLE = "record"  # name of the column that a record without columns is


@dataclasses.dataclass(frozen=True)
class ArrayRecords(Records):
    """Records of ArrayRecord files, one document each, as MaxText and grain read them.

    A record is a `tf.train.Example`, of which the lists of bytes are columns: one text
    each, or a list of texts. Lists of numbers are left out.

    Attributes:
      files: Paths, directories and globs, as in `TextFiles`.
      column: Its strings are the documents; "" where a record is the text itself, and
        no example.
    """

    files: Sequence[str]
    column: str = "text"

    def check(self) -> None:
        resolve(self.files)

    @property
    def text_column(self) -> str:
        return self.column or _WHOLE

    def records(self, columns: Sequence[str] = ()) -> Iterator[Record]:
        for name, path in resolve(self.files):
            for number, content in enumerate(array_record_file.read(path), start=1):
                place = f"{path}, record {number}"
                values = self._values(content, place)
                if columns:
                    values = {key: x for key, x in values.items() if key in columns}
                yield Record(f"{name}:{number}", place, _decoded(values, place))

    def _values(self, content: bytes, place: str) -> dict[str, list[bytes]]:
        if not self.column:
            return {_WHOLE: [content]}
        try:
            return tf_example.decode_bytes(content)
        except ValueError as error:
            raise UserError(
                f"{place}: {error}; where records are texts themselves: column=''"
            ) from error


def _decoded(values: dict[str, list[bytes]], place: str) -> dict[str, str | list[str]]:
    try:
        texts = {key: [text.decode() for text in x] for key, x in values.items()}
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 text ({error.reason})") from error
    return {key: x[0] if len(x) == 1 else x for key, x in texts.items()}
