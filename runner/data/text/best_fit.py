"""Best-fit packing: pieces laid into rows whole."""

import bisect
from collections.abc import Sequence

import numpy as np


def best_fit(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Return the numbers of the pieces in each row, in the order they lie there.

    The longest piece comes first; each goes into the fullest row that has room, the
    earliest of equals, or into a new row. Rows are in the order of their first pieces'
    numbers, so that the order of the data stays as far as it can.

    Args:
      lengths: Of the pieces, at least 1 and at most `capacity`.
      capacity: Positions in a row.

    Source: Ding et al. 2024 (arXiv:2404.10830), section 3.
    """
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}  # rows by the positions they have left
    rooms: list[int] = []  # sorted, those of `by_room`
    for piece in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = int(lengths[piece])
        at = bisect.bisect_left(rooms, length)
        if at == len(rooms):
            row, room = len(rows), capacity
            rows.append([])
        else:
            room = rooms[at]
            row = by_room[room].pop(0)
            if not by_room[room]:
                del by_room[room], rooms[at]
        rows[row].append(piece)
        left = room - length
        if left:
            if left not in by_room:
                by_room[left] = []
                bisect.insort(rooms, left)
            by_room[left].append(row)
    return sorted(map(sorted, rows))
