"""Parquet and Arrow files, read a batch of rows at a time by pyarrow."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.data.documents.extras import require
from runner.data.documents.records import Record
from runner.errors import UserError, nearest

_ROWS_AT_A_TIME = 256


def require_column(column: str, files: Sequence[tuple[str, Path]]) -> None:
    """Refuse files whose first has no such column of text.

    Args:
      column: Its name.
      files: (name, path) of each.

    Raises:
      UserError: With the nearest name, or the type that the column has.
    """
    pyarrow = require("pyarrow", path=files[0][1])
    path = files[0][1]
    schema = _schema(path)
    if column not in schema.names:
        raise UserError(f"{path}: no field {column!r}{nearest(column, schema.names)}")
    kind = schema.field(column).type
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    if str(kind) not in ("string", "large_string", "string_view"):
        raise UserError(f"{path}: field {column!r} must be a string, got {kind}")


def records(name: str, path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Yield the rows of a Parquet or Arrow file; named by their number, from 1.

    Args:
      name: Of the file, the same on every machine.
      path: Of the file.
      columns: The only ones to read, where there are such; none for all.

    Raises:
      UserError: The file is damaged, or pyarrow is not installed.
    """
    number = 0
    with _refused(path):
        for batch in _batches(path, columns):
            for values in batch.to_pylist():
                number += 1
                yield Record(f"{name}:{number}", f"{path}:{number}", values)


def _batches(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    pyarrow = require("pyarrow", path=path)
    names = [name for name in columns if name in _schema(path).names] or None
    if _is_parquet(path):
        with require("pyarrow.parquet", path=path).ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=names)
        return
    with pyarrow.memory_map(str(path)) as source, _opened(pyarrow, source) as reader:
        for batch in _arrow_batches(reader):
            batch.validate(full=True)  # else a wrong offset reads outside of the file
            chosen = batch.select(names) if names else batch
            for start in range(0, chosen.num_rows, _ROWS_AT_A_TIME):
                yield chosen.slice(start, _ROWS_AT_A_TIME)


def _schema(path: Path) -> Any:
    with _refused(path):
        if _is_parquet(path):
            return require("pyarrow.parquet", path=path).read_schema(path)
        pyarrow = require("pyarrow", path=path)
        with (
            pyarrow.memory_map(str(path)) as source,
            _opened(pyarrow, source) as opened,
        ):
            return opened.schema


def _opened(pyarrow: Any, source: Any) -> Any:
    """Return the reader of an Arrow file or, as `datasets` writes them, stream."""
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    return (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(source)


def _arrow_batches(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "num_record_batches"):
        return map(reader.get_batch, range(reader.num_record_batches))
    return iter(reader)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Name the file in the errors of pyarrow, which are ValueErrors and OSErrors."""
    try:
        yield
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is no whole Parquet or Arrow file: {reason}") from None
