"""Records in the form of other trainers, whole or not at all."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from runner.errors import UserError, nearest
from runner.exchange.formats import distillkit_codes
from runner.exchange.segments import spans
from runner.files import tf_example
from runner.records.reader import Records
from runner.records.record import Record

ROWS_AT_A_TIME = 64


def export_records(form: str, source: Path, to: Path) -> str:
    """Write best entries as `form` has them; return what it cannot say, or nothing.

    Args:
      form: One of `WRITERS`.
      source: Directory of the records, or the work directory above it.
      to: A directory that is not there yet.

    Raises:
      UserError: There is no such form, it cannot hold these records, or `to` exists.
    """
    if form not in WRITERS:
        raise UserError(f"no form of records {form!r}{nearest(form, WRITERS)}")
    if to.exists():
        raise UserError(f"{to} exists; exported records want a new directory")
    records = Records.load(source)
    layout = records.layout
    if layout.mode != "top_k":
        raise UserError(
            f"{source} holds {layout.mode} records; {form} has best entries"
        )
    if layout.partial:
        raise UserError(
            f"{source} holds positions that were not scored, which {form} cannot say"
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        loss = WRITERS[form](records, working)
        working.chmod(0o755)
        working.rename(to)
    except OSError as error:
        raise UserError(f"cannot write {to}: {error.strerror}") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return loss


def _maxtext(records: Records, directory: Path) -> str:
    """Write what `save_top_k_teacher_logits` writes, a record a row."""
    from array_record.python.array_record_module import ArrayRecordWriter

    path = directory / "teacher_top_k_part_00000_host_000.array_record"
    writer = ArrayRecordWriter(str(path), "group_size:1")
    try:
        for record in _all(records):
            counts = record.mask.astype(np.int64)
            features = {
                "inputs": record.tokens,
                "targets": record.targets,
                "inputs_position": record.positions,
                "inputs_segmentation": record.segment_ids,
                "targets_segmentation": record.segment_ids * counts,
                "top_k_logits": _logits(record),
                "top_k_indices": record.ids,
                "sequence_hash": record.fields["binding"][:8].view("<i8"),
            }
            arrays = {name: np.asarray(x).ravel() for name, x in features.items()}
            writer.write(tf_example.encode(arrays))
    finally:
        writer.close()
    if not records.layout.temperatures:
        return ""
    return "MaxText keeps no log-normalizer: mass outside of the entries is left out"


def _distillkit(records: Records, directory: Path) -> str:
    """Write what `sample_logits_vllm` writes, a row a segment, every value exact."""
    from runner.data.documents.extras import require

    if 1.0 not in records.layout.temperatures:
        raise UserError(
            f"{records.directory} knows no log-normalizer at temperature 1, and "
            "DistillKit has log-probabilities there"
        )
    path = directory / "data_0.parquet"
    pyarrow = require("pyarrow", path=path)
    bytes_of_places = pyarrow.list_(pyarrow.list_(pyarrow.uint8()))
    schema = pyarrow.schema(
        [
            ("input_ids", pyarrow.list_(pyarrow.uint64())),
            ("compressed_logprobs", bytes_of_places),
            ("bytepacked_indices", bytes_of_places),
        ]
    )
    codes = distillkit_codes.exact(
        d=records.layout.vocab_size, k=records.layout.entries
    )
    parquet = require("pyarrow.parquet", path=path)
    with parquet.ParquetWriter(path, schema) as writer:
        for record in _all(records):
            columns = zip(*_segments(record, codes), strict=True)
            arrays = [
                pyarrow.array(x, field.type)
                for x, field in zip(columns, schema, strict=True)
            ]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
    (directory / distillkit_codes.CONFIG).write_text(codes.text())
    return ""


WRITERS: dict[str, Callable[[Records, Path], str]] = {
    "distillkit": _distillkit,
    "maxtext": _maxtext,
}


def _all(records: Records) -> Iterator[Record]:
    for start in range(0, len(records), ROWS_AT_A_TIME):
        stop = min(start + ROWS_AT_A_TIME, len(records))
        yield from records.read(np.arange(start, stop))


def _logits(record: Record) -> np.ndarray:
    """`[T k]` float32, the best entry's 0 with them."""
    return np.pad(record.logits, [(0, 0), (1, 0)])


def _segments(
    record: Record, codes: distillkit_codes.Codes
) -> Iterator[tuple[list, list, list]]:
    """Yield ids, bytes of scores and of ids of each document's part of a row."""
    log_p, ids = _log_probabilities(record), record.ids
    assert ids is not None  # best entries
    for start, length in spans(record.segment_ids):
        part = slice(start, start + length)
        last = int(record.targets[start + length - 1])
        scores, packed = codes.coded(ids[part], log_p[part])
        yield [*record.tokens[part].tolist(), last], scores.tolist(), packed.tolist()


def _log_probabilities(record: Record) -> np.ndarray:
    """`[T k]` at temperature 1, of entries that sum to 1 with the rest, as losses do.

    The stored normalizer would leave the rounding of the entries to the rest.
    """
    logits = _logits(record).astype(np.float64)
    column = record.layout.temperatures.index(1.0)
    if "log_rests" not in record.layout.words:
        return logits - record.log_normalizers[:, column, None]
    rests = record.log_rests[:, column, None].astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True) + np.exp(rests))
