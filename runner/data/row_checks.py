"""Checks of rows as they are read: what would train without a word, and wrongly."""

from collections.abc import Mapping

import numpy as np

from runner.errors import UserError


def check_rows(
    rows: Mapping[str, np.ndarray], numbers: np.ndarray, *, vocab_size: int
) -> None:
    """Refuse rows whose mask is no bool, or whose ids are not in the vocabulary.

    A target that the mask leaves out, and a token of padding, may be anything.

    Args:
      rows: Arrays `[b ...]` by name.
      numbers: Of the rows in the dataset, `[b]`.
      vocab_size: V; ids are in `[0, V)`.

    Raises:
      UserError: With the row, the place in it and the id.
    """
    mask = rows["mask"]
    if mask.dtype != bool:
        raise UserError(
            f"data: mask must be bool, got {mask.dtype} (1 = counts; factors of the "
            "values are a term's token_weight)"
        )
    _check_ids("target", rows["targets"], mask, numbers, vocab_size)
    if "tokens" in rows and "segment_ids" in rows:
        real = rows["segment_ids"] > 0
        _check_ids("token", rows["tokens"], real, numbers, vocab_size)


def _check_ids(
    what: str, ids: np.ndarray, counted: np.ndarray, numbers: np.ndarray, size: int
) -> None:
    # Two reductions first, which make no array: data is good nearly always.
    if ids.size == 0 or (ids.min() >= 0 and ids.max() < size):
        return
    bad = counted & ((ids < 0) | (ids >= size))
    if not bad.any():
        return
    row, *place = (int(i) for i in np.argwhere(bad)[0])
    where = f"row {int(numbers[row])}" + (f", position {place[0]}" if place else "")
    remedy = "; mask is False where there is none" if what == "target" else ""
    raise UserError(
        f"data: {where}: {what} {int(ids[(row, *place)])} is not in the vocabulary, "
        f"0 to {size - 1}{remedy}"
    )
