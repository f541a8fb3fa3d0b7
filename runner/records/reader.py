"""Teacher records by row number, joined to the rows of data they were made from."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from runner.data.labels import Labels
from runner.errors import UserError
from runner.records import checks, deflated
from runner.records.code_table import CodeTable
from runner.records.explain import misplaced, other_row
from runner.records.manifest import Manifest, locate, read_manifest
from runner.records.packing import unpack, unpack_fields
from runner.records.record import (
    CorruptRecord,
    Record,
    decode,
    nats,
    stack,
    unpacked_known,
)
from runner.records.rows import binding
from runner.records.vocabularies import check_vocabulary

PREFIX = "teacher/"
_RANDOM = "readahead_buffer_size:0,max_parallelism:0"

# Places in a batch, the bytes in a file of the records there, the codes of these.
Stored = tuple[np.ndarray, list[bytes], CodeTable | None]


class Records:
    """A finished directory of records. `Records.load(path)` makes one.

    Threads may share it. Processes open their own: it is pickled as its path.
    """

    def __init__(self, directory: Path, manifest: Manifest):
        self.directory = directory
        self.manifest = manifest
        self.layout = manifest.layout
        self._readers: dict[int, tuple[Any, CodeTable | None]] = {}
        self._lock = threading.Lock()
        self._firsts = np.array([shard.first for shard in manifest.shards])

    @classmethod
    def load(cls, path: Path | str) -> "Records":
        """The records of a directory, or of the work directory above it.

        Raises:
          UserError: They are not finished, or a shard is missing or cut short.
        """
        directory = locate(path)
        manifest = read_manifest(directory)
        first = 0
        for shard in manifest.shards:
            file = directory / shard.name
            if shard.first != first:
                raise UserError(f"{file} begins with row {shard.first}, wanted {first}")
            first += shard.count
            try:
                size = file.stat().st_size
            except OSError:
                raise UserError(f"{file} is missing") from None
            if size != shard.bytes:
                raise UserError(
                    f"{file} has {size} bytes, {shard.bytes} were recorded: it is "
                    f"{'cut short' if size < shard.bytes else 'not the same file'}"
                )
        return cls(directory, manifest)

    def __len__(self) -> int:
        """Records, one a row of data."""
        return self.manifest.records

    def __reduce__(self):
        return Records.load, (str(self.directory),)

    def check_teacher(self, weights: str) -> None:
        """Refuse records of another teacher than that with this digest of weights.

        Raises:
          UserError: Naming both.
        """
        self.manifest.check_teacher(weights, directory=self.directory)

    def check_data(self, fingerprint: str) -> None:
        """Refuse records of other data than that with this fingerprint.

        Raises:
          UserError: Naming both.
        """
        self.manifest.check_data(fingerprint, directory=self.directory)

    def check_vocabulary(self, labels: Labels) -> None:
        """Refuse records over other tokens than those of `labels`.

        Raises:
          UserError: Naming the first tokens that differ.
        """
        check_vocabulary(self.manifest, labels, directory=self.directory)

    def read(self, numbers: Sequence[int] | np.ndarray) -> list[Record]:
        """The records of some rows, undamaged and each that of its row.

        Raises:
          UserError: One is missing, damaged or that of another row.
        """
        numbers = np.asarray(numbers)
        raw = self.read_bytes(numbers)
        self.table(numbers, raw)
        return [decode(self.layout, record) for record in raw]

    def teacher_arrays(
        self, numbers: Sequence[int] | np.ndarray, rows: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the teacher's outputs on some rows, stacked; every record is checked.

        Args:
          numbers: Row numbers `[B]`.
          rows: tokens, targets, mask, segment_ids and positions of these, `[B T]`.

        Returns:
          Arrays by name, where `T'` are the temperatures of the records:
          `teacher/ids16`: uint16 `[B T k]`, entries (not for `full`).
          `teacher/ids4`: uint8 `[B T ceil(k/2)]`, bits 16-19 of two ids a byte, first
            low (vocabularies above 65536).
          `teacher/drops`: uint16 `[B T k-1]` or `[B T V]`, see `codes.logits`; a best
            entry's 0 is not stored.
          `teacher/log_rests`: float32 `[B T T']`, of all other logits (`top_k`).
          `teacher/log_normalizers`: float32 `[B T T']`, of these logits.
          `teacher/entropies`: float32 `[B T T']` (`sampled`).
          `teacher/known`: bool `[B T]`, positions that were scored (where the records
            are partial).

        Raises:
          UserError: A record is missing, damaged, of another row, or no teacher's.
        """
        numbers = np.asarray(numbers)
        table = self.fields(numbers)
        for place, number in enumerate(numbers.tolist()):
            row = {name: x[place] for name, x in rows.items()}
            if binding(row) != table["binding"][place].tobytes():
                record = self.read([number])[0]
                self.refuse(
                    number, f"is not of this row of data: {other_row(record, row)}"
                )
        fault = checks.first_fault(self.layout, table, rows["targets"], rows["mask"])
        if fault:
            self.refuse(int(numbers[fault[0]]), fault[1])
        known = {}
        if self.layout.partial:
            known = {f"{PREFIX}known": unpacked_known(self.layout, table)}
        return arrays(table) | known

    def read_bytes(self, numbers: np.ndarray) -> list[bytes]:
        """The bytes of the records of some rows, unpacked, unchecked.

        Raises:
          UserError: There is no such row, or a shard cannot be read.
        """
        records: list[bytes] = [b""] * len(numbers)
        for places, stored, table in self._stored(numbers):
            for place, record in zip(places.tolist(), stored, strict=True):
                records[place] = self._whole(int(numbers[place]), record, table)
        return records

    def fields(self, numbers: np.ndarray) -> np.ndarray:
        """`[B]` of the layout's dtype: undamaged records, each that of its row.

        Raises:
          UserError: There is no such row, or a record is damaged or that of another.
        """
        if not self.layout.checked_packed:
            return self.table(numbers, self.read_bytes(numbers))
        fields = np.empty(len(numbers), self.layout.dtype)
        for places, stored, table in self._stored(numbers):
            assert table is not None
            try:
                fields[places] = unpack_fields(self.layout, table, stored)[0]
            except CorruptRecord as error:
                reason, place = error.args
                self.refuse(int(numbers[places[place]]), reason)
        return self._in_place(numbers, fields)

    def table(self, numbers: np.ndarray, raw: list[bytes]) -> np.ndarray:
        """`[B]` of the layout's dtype: undamaged records, each that of its row.

        Raises:
          UserError: One is damaged or that of another row.
        """
        try:
            table = stack(self.layout, raw)
        except CorruptRecord as error:
            reason, place = error.args
            self.refuse(int(numbers[place]), reason)
        return self._in_place(numbers, table)

    def refuse(self, number: int, reason: str) -> NoReturn:
        """Raise the UserError of one record."""
        raise UserError(f"{self.directory}, record {number}: {reason}")

    def _stored(self, numbers: np.ndarray) -> Iterator[Stored]:
        """Yield what lies in the files: one read a shard, whatever the order.

        Raises:
          UserError: There is no such row, or a shard cannot be read.
        """
        outside = (numbers < 0) | (numbers >= len(self))
        if outside.any():
            raise UserError(
                f"{self.directory} holds no record of row {numbers[outside.argmax()]}: "
                f"it holds rows 0 to {len(self) - 1}"
            )
        owners = np.searchsorted(self._firsts, numbers, side="right") - 1
        for owner in np.unique(owners).tolist():
            places = np.flatnonzero(owners == owner)
            shard = self.manifest.shards[owner]
            reader, table = self._opened(owner)
            within = (numbers[places] - shard.first + (table is not None)).tolist()
            try:
                stored = reader.read(within)
            except (RuntimeError, IndexError) as error:
                raise self._unreadable(owner, error) from error
            if len(stored) != len(within):
                raise self._unreadable(owner, f"{len(stored)} of {len(within)} records")
            yield places, stored, table

    def _in_place(self, numbers: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Return `table`, where each record is that of its row."""
        wrong = table["index"] != numbers
        if wrong.any():
            number, index = (int(x[wrong.argmax()]) for x in (numbers, table["index"]))
            self.refuse(number, misplaced(number, index, index_of=self._index_of))
        return table

    def _whole(self, number: int, stored: bytes, table: CodeTable | None) -> bytes:
        """Return a record as `decode` reads it, of what lies in a file."""
        if not self.layout.packed:
            return stored
        try:
            if table is None:
                return deflated.unpack(self.layout, stored)
            return unpack(self.layout, table, stored)
        except CorruptRecord as error:
            self.refuse(number, str(error))

    def _index_of(self, number: int) -> int | None:
        """Return the row that the record at `number` is of; None if unreadable."""
        try:
            return decode(self.layout, self.read_bytes(np.array([number]))[0]).index
        except (UserError, CorruptRecord):
            return None

    def _opened(self, owner: int) -> tuple[Any, CodeTable | None]:
        """Return the reader of a shard, and its table of codes if it has one."""
        from array_record.python.array_record_module import ArrayRecordReader

        with self._lock:
            if owner not in self._readers:
                shard = self.manifest.shards[owner]
                try:
                    reader = ArrayRecordReader(
                        str(self.directory / shard.name), _RANDOM
                    )
                    count = reader.num_records() if reader.ok() else 0
                except RuntimeError as error:
                    raise self._unreadable(owner, error) from error
                # A file that was cut short can open, with fewer records or none.
                count = max(count - self.layout.tabled, 0)
                if count != shard.count:
                    raise self._unreadable(owner, f"{count} of {shard.count} records")
                table = None
                if self.layout.tabled:
                    try:
                        (stored,) = reader.read([0])
                        table = CodeTable.from_bytes(self.layout, stored)
                    except (RuntimeError, CorruptRecord) as error:
                        raise self._unreadable(owner, error) from error
                self._readers[owner] = reader, table
            return self._readers[owner]

    def _unreadable(self, owner: int, reason: object) -> UserError:
        file = self.directory / self.manifest.shards[owner].name
        line = str(reason).splitlines()[0].partition(";")[0]
        return UserError(f"{file} is damaged and cannot be read: {line}")


def arrays(table: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays of `Records.teacher_arrays`, of a structured array of records."""
    names = table.dtype.names or ()
    planes = [name for name in ("ids16", "ids4", "drops") if name in names]
    words = ("log_normalizers", "log_rests", "entropies")
    words = [word for word in words if f"{word}_low" in names]
    joined = {PREFIX + name: np.ascontiguousarray(table[name]) for name in planes}
    return joined | {PREFIX + name: nats(table, name) for name in words}
