"""Lines of aligned cells."""

from collections.abc import Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]], *, numbers: Sequence[int]) -> Iterator[str]:
    """Each row as a line; the columns `numbers` to the right, others to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
