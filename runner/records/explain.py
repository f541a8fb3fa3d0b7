"""Why a record is not the one that was wanted, in words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from runner.errors import UserError
from runner.records.record import CorruptRecord, Record, decode
from runner.records.rows import binding

if TYPE_CHECKING:
    from runner.records.reader import Records


def misplaced(records: "Records", number: int, found: int) -> str:
    """Why the record at `number` is that of row `found`: repeated, swapped, shifted."""
    reason = f"is that of row {found}"
    if _index(records, found) == found:
        return f"{reason}, which is there twice; that of row {number} is missing"
    if _index(records, found) == number:
        return f"{reason}: the two are swapped"
    by = found - number
    near = [_index(records, number + step) for step in (-1, 1)]
    if by and any(
        index == number + step + by
        for index, step in zip(near, (-1, 1), strict=True)
        if index is not None
    ):
        return f"{reason}: the records are shifted by {by}"
    return f"{reason}: the records are out of order"


def other_row(record: Record, row: Mapping[str, np.ndarray]) -> str:
    """How the row a record was made from differs from a row of data."""
    tokens = record.tokens
    if (tokens != row["tokens"]).any():
        for by in (1, -1):
            mine, theirs = (tokens[1:], row["tokens"][:-1])
            if by < 0:
                mine, theirs = tokens[:-1], row["tokens"][1:]
            if len(mine) and (mine == theirs).all():
                return "its tokens are those of the row shifted by one"
        at = int((tokens != row["tokens"]).argmax())
        return f"token {tokens[at]} at position {at}, wanted {row['tokens'][at]}"
    for name in ("segment_ids", "positions"):
        mine, wanted = getattr(record, name), row[name]
        if (mine != wanted).any():
            at = int((mine != wanted).argmax())
            what = name.replace("_", " ")
            return f"its {what} have {mine[at]} at position {at}, wanted {wanted[at]}"
    return "its binding does not agree with its own tokens"


def own_binding(record: Record) -> dict[str, np.ndarray] | str:
    """The row that a record was made from, or why it does not hold it."""
    try:
        row = record.row
    except ValueError as error:
        return f"does not hold its row of data: {error}"
    if binding(row) != record.fields["binding"].tobytes():
        return "is not of its own tokens: its binding does not agree with them"
    if int(record.fields["targets"]) != int(row["mask"].sum()):
        return f"has {row['mask'].sum()} targets, not {record.fields['targets']}"
    return row


def _index(records: "Records", number: int) -> int | None:
    try:
        raw = records.read_bytes(np.array([number]))[0]
        return decode(records.layout, raw).index
    except (UserError, CorruptRecord):
        return None
