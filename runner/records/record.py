"""A record read back: its checksum, its header, its numbers as they are stored."""

import dataclasses
import functools
import zlib
from collections.abc import Sequence

import numpy as np

from runner.records import codes
from runner.records.layout import CHECKED, MAGIC, RUNS, Layout
from runner.records.rows import default_positions, next_tokens


class CorruptRecord(ValueError):
    """Bytes are not a record of a layout; the message is the reason, in one line."""


def decode(layout: Layout, record: bytes) -> "Record":
    """Decode a record, its arrays views of the bytes; values are not checked.

    Raises:
      CorruptRecord: It is not a whole, undamaged record of `layout`.
    """
    _check(layout, record)
    return Record(layout, np.frombuffer(record, layout.dtype, 1)[0], record)


def stack(layout: Layout, records: Sequence[bytes]) -> np.ndarray:
    """`[B]` of `layout.dtype`: the records up to their runs.

    Raises:
      CorruptRecord: One is not a record of `layout`; its `args` are the reason and
        its place in the list.
    """
    for place, record in enumerate(records):
        try:
            _check(layout, record)
        except CorruptRecord as error:
            raise CorruptRecord(str(error), place) from None
    size = layout.dtype.itemsize
    views = [memoryview(record)[:size] for record in records]
    return np.frombuffer(b"".join(views), layout.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One record, its numbers as they are stored.

    Attributes:
      layout: Of the record.
      fields: Scalar of `layout.dtype`.
      record: Bytes of all of it, runs included.
    """

    layout: Layout
    fields: np.void
    record: bytes

    @property
    def index(self) -> int:
        """Number of the row."""
        return int(self.fields["index"])

    @functools.cached_property
    def tokens(self) -> np.ndarray:
        """`[T]` int32."""
        high = self.fields["tokens4"] if self.layout.wide else None
        return codes.join_ids(self.fields["tokens16"], high)

    @property
    def segment_ids(self) -> np.ndarray:
        """`[T]` int32."""
        return self._run_values["segment_ids"]

    @functools.cached_property
    def positions(self) -> np.ndarray:
        """`[T]` int32."""
        return self._run_values["positions"] + default_positions(self.segment_ids)

    @functools.cached_property
    def mask(self) -> np.ndarray:
        """`[T]` bool."""
        return (self._run_values["mask"] + (self.segment_ids > 0)).astype(bool)

    @functools.cached_property
    def targets(self) -> np.ndarray:
        """`[T]` int32."""
        return self._run_values["targets"] + next_tokens(self.tokens)

    @property
    def row(self) -> dict[str, np.ndarray]:
        """The row of data again, exactly."""
        return {name: getattr(self, name) for name in ("tokens", *RUNS)}

    @functools.cached_property
    def ids(self) -> np.ndarray | None:
        """`[T entries]` int32; None for the whole vocabulary."""
        return entry_ids(self.layout, self.fields)

    @property
    def drops(self) -> np.ndarray:
        """`[T k-1]` or `[T V]` uint16, codes of how far below the largest logit."""
        return self.fields["drops"]

    @property
    def logits(self) -> np.ndarray:
        """`[T k-1]` or `[T V]` float32, nats, less the largest, 0."""
        return codes.logits(self.drops, version=self.layout.format)

    @property
    def log_normalizers(self) -> np.ndarray:
        """`[T temperatures]` float32, of logits less their largest."""
        return nats(self.fields, "log_normalizers")

    @property
    def log_rests(self) -> np.ndarray:
        """`[T temperatures]` float32, of logits less their largest."""
        return nats(self.fields, "log_rests")

    @property
    def entropies(self) -> np.ndarray:
        """`[T temperatures]` float32, nats."""
        return nats(self.fields, "entropies")

    @property
    def known(self) -> np.ndarray:
        """`[T]` bool: the position was scored."""
        return unpacked_known(self.layout, self.fields)

    @property
    def hits(self) -> np.ndarray:
        """`[T]` bool, as recorded: the position counts and its target is an entry."""
        return unpacked_hits(self.layout, self.fields)

    @functools.cached_property
    def _run_values(self) -> dict[str, np.ndarray]:
        values, at = {}, self.layout.dtype.itemsize
        for name, count in zip(RUNS, self.fields["runs"].tolist(), strict=True):
            coded = np.frombuffer(self.record, self.layout.run, count, at)
            values[name] = codes.from_runs(coded, self.layout.sequence_length)
            at += coded.nbytes
        return values


def entry_ids(layout: Layout, fields: np.ndarray | np.void) -> np.ndarray | None:
    """`[*b T entries]` int32 of some records; None for the whole vocabulary."""
    if layout.mode == "full":
        return None
    return codes.join_ids(fields["ids16"], fields["ids4"] if layout.wide else None)


def nats(fields: np.ndarray | np.void, name: str) -> np.ndarray:
    """`[*b T temperatures]` float32 of some records."""
    bits = fields[f"{name}_low"], fields[f"{name}_high"]
    values = codes.from_fixed_point(*bits, name)
    return np.ascontiguousarray(np.moveaxis(values, -2, -1))


def unpacked_hits(layout: Layout, fields: np.ndarray | np.void) -> np.ndarray:
    """`[*b T]` bool of some records."""
    return np.unpackbits(fields["hits"], axis=-1, count=layout.sequence_length).astype(
        bool
    )


def unpacked_known(layout: Layout, fields: np.ndarray | np.void) -> np.ndarray:
    """`[*b T]` bool of some records: positions that were scored."""
    if not layout.partial:
        return np.ones((*fields["hits"].shape[:-1], layout.sequence_length), bool)
    bits = np.unpackbits(fields["known"], axis=-1, count=layout.sequence_length)
    return bits.astype(bool)


def checksum(*parts: bytes | memoryview) -> bytes:
    """CRC-32 of some bytes: finds any three flipped bits, and any 32 in a row.

    A cryptographic digest takes longer than all else that is done to a record; files
    have one, that of `manifest.json`.
    """
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value.to_bytes(4, "little")


def check_header(layout: Layout, record: bytes) -> None:
    """Refuse bytes whose checksum is another, or that begin as no record of `layout`.

    Raises:
      CorruptRecord: Naming the first of these that is so.
    """
    view, dtype = memoryview(record), layout.dtype
    if len(record) <= CHECKED or view[: len(MAGIC)] != MAGIC:
        raise CorruptRecord("it is not a teacher record")
    if view[len(MAGIC) : CHECKED] != checksum(view[CHECKED:]):
        raise CorruptRecord("its checksum does not agree: it is damaged or cut short")
    if record[CHECKED] != layout.format:
        raise CorruptRecord(
            f"it has format {record[CHECKED]}, its directory {layout.format}"
        )
    at = dtype.fields["tag"][1] if dtype.fields else 0
    if view[at : at + 8] != layout.tag:
        raise CorruptRecord(
            "it belongs to other records: another teacher, data or layout"
        )


def _check(layout: Layout, record: bytes) -> None:
    check_header(layout, record)
    # The header says how long the runs after it are.
    dtype = layout.dtype
    if len(record) >= dtype.itemsize:
        at = dtype.fields["runs"][1] if dtype.fields else 0
        counts = np.frombuffer(record, layout.place, len(RUNS), at)
        if len(record) == dtype.itemsize + int(counts.sum()) * layout.run.itemsize:
            return
    raise CorruptRecord(
        f"it has {len(record)} bytes, which its header does not explain"
    )
