"""JSON lines as records and documents."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from runner.data import file_forms
from runner.data.documents.compressed import open_bytes
from runner.data.documents.records import Record, Records
from runner.data.paths import resolve
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class JsonLines(Records):
    """JSON lines, one object each; blank lines are skipped.

    The files may be compressed by gzip, zstd, bzip2 or xz.

    Attributes:
      files: Paths, directories and globs, as in `TextFiles`.
      field: Key of the JSON object whose string is the document.
    """

    files: Sequence[str]
    field: str = "text"

    def check(self) -> None:
        resolve(self.files)

    @property
    def text_column(self) -> str:
        return self.field

    def records(self, columns: Sequence[str] = ()) -> Iterator[Record]:
        del columns  # a line is parsed whole
        for name, path in resolve(self.files):
            with open_bytes(path) as lines:
                if form := file_forms.describe(lines.peek(file_forms.LONGEST)):
                    raise UserError(f"{path} is {form}")
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        place = f"{path}:{number}"
                        yield Record(f"{name}:{number}", place, _object(line, place))


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 text ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{place}: not JSON: {error.msg} (column {error.colno})"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(";")[0]
        raise UserError(f"{place}: not JSON that can be read: {reason}") from error
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise UserError(f"{place}: expected a JSON object, got {kind}")
    return record
