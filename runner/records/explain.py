"""Error messages for records that do not belong to their row of data."""

from collections.abc import Callable, Mapping

import numpy as np

from runner.records.record import Record
from runner.records.rows import binding


def misplaced(number: int, index: int, *, index_of: Callable[[int], int | None]) -> str:
    """Say how a record got out of place: repeated, swapped, shifted.

    Args:
      number: Place of the record, and the row that belongs there.
      index: Row that the record is of.
      index_of: From a place to the row that the record there is of; None where there
        is no readable record.
    """
    reason = f"is that of row {index}"
    if index_of(index) == index:
        return f"{reason}, which is there twice; that of row {number} is missing"
    if index_of(index) == number:
        return f"{reason}: the two are swapped"
    by = index - number
    near = [index_of(number + step) for step in (-1, 1)]
    if by and any(
        neighbour == number + step + by
        for neighbour, step in zip(near, (-1, 1), strict=True)
        if neighbour is not None
    ):
        return f"{reason}: the records are shifted by {by}"
    return f"{reason}: the records are out of order"


def other_row(record: Record, row: Mapping[str, np.ndarray]) -> str:
    """Say how the row a record was made from differs from a row of data."""
    tokens = record.tokens
    # Other tokens: those of the neighbouring positions, or any.
    if (tokens != row["tokens"]).any():
        for by in (1, -1):
            recorded, expected = (tokens[1:], row["tokens"][:-1])
            if by < 0:
                recorded, expected = tokens[:-1], row["tokens"][1:]
            if len(recorded) and (recorded == expected).all():
                return "its tokens are those of the row shifted by one"
        at = int((tokens != row["tokens"]).argmax())
        return f"token {tokens[at]} at position {at}, wanted {row['tokens'][at]}"
    # The same tokens, packed in another way.
    for name in ("segment_ids", "positions"):
        recorded, expected = getattr(record, name), row[name]
        if (recorded != expected).any():
            at = int((recorded != expected).argmax())
            return (
                f"its {name.replace('_', ' ')} have {recorded[at]} at position {at}, "
                f"wanted {expected[at]}"
            )
    return "its binding does not agree with its own tokens"


def own_binding(record: Record) -> dict[str, np.ndarray] | str:
    """Return the row that a record was made from, or why it does not hold it."""
    try:
        row = record.row
    except ValueError as error:
        return f"does not hold its row of data: {error}"
    if binding(row) != record.fields["binding"].tobytes():
        return "is not of its own tokens: its binding does not agree with them"
    targets = int((row["mask"] & record.known).sum())
    if int(record.fields["targets"]) != targets:
        return f"has {targets} targets, not {record.fields['targets']}"
    return row
