"""Records of ArrayRecord files, as bytes."""

from collections.abc import Iterator
from pathlib import Path

from runner.errors import UserError

_RECORDS_PER_READ = 1024


def read(path: Path) -> Iterator[bytes]:
    """Yield the records of a file in order.

    Raises:
      UserError: The file is damaged or empty. One that is cut short can report no
        records and no error.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(path))
        count = reader.num_records()
        if not count or not reader.ok():
            raise UserError(f"{path} holds no records: it is empty or cut short")
        for start in range(0, count, _RECORDS_PER_READ):
            yield from reader.read(start, min(start + _RECORDS_PER_READ, count))
        reader.close()
    except RuntimeError as error:
        reason = str(error).splitlines()[0].partition(";")[0]
        raise UserError(f"{path} is not a whole ArrayRecord file:\n{reason}") from error
