"""Checks of collected scores against the rows they are of."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from runner.data.dataset import Dataset
from runner.exchange.formats.scored import BadScores
from runner.exchange.segments import numbered_rows
from runner.exchange.spool import Spool
from runner.records.rows import hits

OFF = 0.1  # of hits: this many more among other tokens than among the next


class Coverage(NamedTuple):
    """Rows that lack scores, and how often entries hold the tokens around them.

    Attributes:
      lacking: Number of rows with a target and no scores.
      row: The first of them; `position` the first such in it.
      position: See above.
      scored: Positions with a target and scores.
      own: Share of the positions whose entries hold the position's own token, and
        share whose entries hold the next.
      after: The same of the token after the next, where a document has one.
    """

    lacking: int
    row: int
    position: int
    scored: int
    own: tuple[float, float]
    after: tuple[float, float]


def coverage(spool: Spool, dataset: Dataset, *, entries: int) -> Coverage:
    """Compare the entries of each position with the tokens of the rows.

    Without the last of them: some formats add the next token to the k best.
    """
    lacking, row, position = 0, -1, -1
    totals = np.zeros((2, 3), np.int64)  # hits of others and of next, and positions
    for number, data in numbered_rows(dataset):
        without = data["mask"] & ~spool.known[number]
        if without.any():
            if not lacking:
                row, position = number, int(without.argmax())
            lacking += 1
        best = np.s_[number, :, : max(entries - 1, 1)]
        ids = np.where(np.isfinite(spool.scores[best]), spool.ids[best], -1)
        totals += list(_hits(ids, data, spool.known[number]))
    own, after = ((x / max(n, 1), y / max(n, 1)) for x, y, n in totals.tolist())
    return Coverage(lacking, row, position, int(totals[0, 2]), own, after)


def refuse_shifted(source: str, rates: Coverage) -> None:
    """Refuse scores that hold other tokens than the next more often.

    Raises:
      BadScores: They are one position off.
    """
    for name, (other, following) in {
        "the tokens themselves": rates.own,
        "the tokens after those": rates.after,
    }.items():
        if other > following + OFF:
            raise BadScores(
                f"{source} is one position off: its entries hold {following:.1%} "
                f"of the next tokens and {other:.1%} of {name}"
            )


def _hits(ids, row, known) -> Iterator[tuple[int, int, int]]:
    counted = row["mask"] & known
    following = row["targets"]
    inside = counted & (np.append(row["segment_ids"][1:], 0) == row["segment_ids"])
    others = {"own": row["tokens"], "after": np.append(following[1:], 0)}
    for name, mask in {"own": counted, "after": inside}.items():
        yield (
            int(hits(ids, others[name], mask).sum()),
            int(hits(ids, following, mask).sum()),
            int(mask.sum()),
        )
