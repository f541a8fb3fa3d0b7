"""Files of teacher records: written whole, then vouched for by a sidecar, then sealed.

A writer killed before it closes leaves nothing that can be read, so a shard is written
under another name, closed, synced and renamed, and only then its sidecar is written.
Without that it does not count. The manifest comes when all sidecars are there.
"""

import contextlib
import dataclasses
import itertools
import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from runner import atomic_files
from runner.data.text.record_files import sha256_of
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError
from runner.files import form
from runner.records.code_table import SAMPLE, CodeTable
from runner.records.layout import Layout
from runner.records.manifest import (
    NAME,
    TOKENIZER,
    Manifest,
    Origin,
    Shard,
    code_version,
    read_manifest,
    write_manifest,
)
from runner.records.packing import at_once, pack
from runner.records.record import CorruptRecord, stack


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sidecar(Shard):
    """The file beside a shard.

    Attributes:
      layout: `Layout.tag` of its records, in hexadecimal.
    """

    layout: str


COMPRESSION = "uncompressed"  # records hardly shrink; "zstd:3" for a slow disk
TEMPORARY = ".tmp"


def shard_name(number: int, of: int) -> str:
    """`records-00007-of-00012.array_record`."""
    return f"records-{number:05}-of-{of:05}.array_record"


def shard_rows(number: int, *, of: int, rows: int) -> range:
    """The rows of one of `of` shards, as equal as can be."""
    return range(rows * number // of, rows * (number + 1) // of)


def write_shard(
    directory: Path,
    number: int,
    of: int,
    records: Iterable[bytes],
    layout: Layout,
    *,
    first: int,
    compression: str = COMPRESSION,
) -> Shard:
    """Write one shard, whole or not at all, then its sidecar.

    Args:
      directory: Of the records.
      number: Of this shard.
      of: Number of shards.
      records: From `encode_batch`. The file depends on nothing else.
      layout: Of the records.
      first: Row number of its first record; the others follow one by one.
      compression: Of the file, as ArrayRecord spells it.

    Raises:
      UserError: The directory cannot be written.
      ValueError: A record is malformed or out of order; nothing is left behind.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    path = directory / shard_name(number, of)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{TEMPORARY}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        writer = ArrayRecordWriter(str(temporary), f"group_size:1,{compression}")
        count = hits = targets = 0
        try:
            checked = _checked(records, layout, first)
            table, checked = _table(layout, checked)
            if table is not None:
                writer.write(table.to_bytes())
            while some := list(itertools.islice(checked, at_once(layout))):
                records_ = [record for record, _ in some]
                if table is not None:
                    records_ = pack(layout, table, records_)
                for (_, fields), stored in zip(some, records_, strict=True):
                    hits += int(np.bitwise_count(fields["hits"]).sum())
                    targets += int(fields["targets"])
                    writer.write(stored)
                count += len(some)
        finally:
            writer.close()
        atomic_files.sync(temporary)
        _check_whole(temporary, count + (table is not None))
        shard = Shard(
            name=path.name,
            first=first,
            count=count,
            bytes=temporary.stat().st_size,
            sha256=sha256_of(temporary),
            hits=hits,
            targets=targets,
        )
        sidecar(path).unlink(missing_ok=True)  # of an earlier file of this name
        temporary.replace(path)
        atomic_files.sync(directory)
        beside = Sidecar(**dataclasses.asdict(shard), layout=layout.tag.hex())
        content = json.dumps(dataclasses.asdict(beside), indent=1)
        atomic_files.write_atomic(sidecar(path), content + "\n")
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0].partition(";")[0]
        raise UserError(f"cannot write {path}: {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return shard


def sidecar(shard: Path) -> Path:
    """Path of the description of a shard."""
    return shard.with_name(shard.name + ".json")


def finished_shards(
    directory: Path, of: int, layout: Layout, *, digest: bool = False
) -> dict[int, Shard]:
    """Return the shards that count, by number: their sidecar describes them.

    Args:
      directory: Of the records.
      of: Number of shards.
      layout: That the records must have.
      digest: Also compare the sha256 of each file.
    """
    finished = {}
    for number in range(of):
        path = directory / shard_name(number, of)
        try:
            beside = form.read(Sidecar, sidecar(path))
            same = beside.layout == layout.tag.hex() and beside.name == path.name
            same &= path.stat().st_size == beside.bytes
            if same and digest:
                same = sha256_of(path) == beside.sha256
        except (OSError, ValueError):
            continue  # not there yet, or of a process that was killed
        if same:
            fields = dataclasses.asdict(beside)
            del fields["layout"]
            finished[number] = Shard(**fields)
    return finished


def seal(
    directory: Path,
    *,
    of: int,
    layout: Layout,
    origin: Origin,
    records: int,
    vocabulary: Vocabulary,
    code: str = "",
) -> Manifest | None:
    """Write the manifest once all shards are there; None before that.

    Any process may call it, several at once: they write the same. A directory that is
    sealed already stays as it is.

    Args:
      directory: Of the records.
      of: Number of shards.
      layout: Of the records.
      origin: Of the records.
      records: Number there must be in all shards.
      vocabulary: Its tokenizer is copied beside the records.
      code: `code_version()` by default.

    Raises:
      UserError: The shards do not hold rows 0 to `records`, or the directory was
        sealed as something else.
    """
    finished = finished_shards(directory, of, layout)
    if len(finished) < of:
        return None
    shards = tuple(finished[number] for number in range(of))
    for shard, first in zip(shards, _firsts(shards), strict=False):
        if shard.first != first:
            raise UserError(
                f"{directory / shard.name} begins with row {shard.first}, "
                f"wanted {first}"
            )
    if (count := sum(shard.count for shard in shards)) != records:
        raise UserError(f"{directory} holds {count} records, wanted {records}")
    manifest = Manifest(
        layout=layout, origin=origin, shards=shards, code=code or code_version()
    )
    if (directory / NAME).exists():
        sealed = read_manifest(directory)
        if dataclasses.replace(sealed, code=manifest.code) != manifest:
            raise UserError(f"{directory} holds finished records of something else")
        return sealed
    text = vocabulary.tokenizer.to_str()
    atomic_files.write_atomic(directory / TOKENIZER, text)
    write_manifest(directory, manifest)
    return manifest


def remove_temporaries(directory: Path) -> None:
    """Delete files of killed writers; only while no other process writes."""
    atomic_files.remove_temporaries(directory)
    for path in directory.glob(f"*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def _check_whole(path: Path, count: int) -> None:
    """Refuse a file that lost records: a full disk may go unreported."""
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(path))
    count_on_disk = reader.num_records()
    reader.close()
    if count_on_disk != count:
        raise OSError(f"{count_on_disk} of {count} records reached the disk")


def _firsts(shards: Iterable[Shard]) -> Iterator[int]:
    first = 0
    for shard in shards:
        yield first
        first += shard.count


Checked = Iterator[tuple[bytes, np.void]]  # a record, and its fields


def _checked(records: Iterable[bytes], layout: Layout, first: int) -> Checked:
    """Yield records that are whole and in order, from that of row `first` on."""
    for index, record in enumerate(records, start=first):
        try:
            fields = stack(layout, [record])[0]
        except CorruptRecord as error:
            raise ValueError(f"record of row {index}: {error}") from error
        if fields["index"] != index:
            row = fields["index"]
            raise ValueError(f"record of row {index} is that of row {row}")
        yield record, fields


def _table(layout: Layout, checked: Checked) -> tuple[CodeTable | None, Checked]:
    """Return the table of codes of a packed shard, and all of its records again."""
    if not layout.tabled:
        return None, checked
    sample = list(itertools.islice(checked, SAMPLE))
    table = CodeTable.of(layout, [record for record, _ in sample])
    return table, itertools.chain(sample, checked)
