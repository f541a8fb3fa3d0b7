"""The ids that a server is to score, so that every position of some rows has scores."""

import json
from collections.abc import Iterator
from pathlib import Path

from runner import atomic_files
from runner.data.dataset import Dataset
from runner.errors import UserError
from runner.exchange.segments import numbered_rows, spans


def write(dataset: Dataset, to: Path) -> int:
    """Write a JSON object for each different segment; return how many.

    `prompt` are the ids of the segment and its last target: a server gives the
    distribution of each token of a prompt but the first.

    Raises:
      UserError: `to` exists, or cannot be written.
    """
    if to.exists():
        raise UserError(f"{to} exists; prompts want a new file")
    lines = list(dict.fromkeys(_lines(dataset)))
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        atomic_files.write_atomic(to, "".join(lines))
    except OSError as error:
        raise UserError(f"cannot write {to}: {error.strerror}") from error
    return len(lines)


def _lines(dataset: Dataset) -> Iterator[str]:
    for _, row in numbered_rows(dataset):
        for start, length in spans(row["segment_ids"]):
            end = start + length
            ids = [*row["tokens"][start:end].tolist(), int(row["targets"][end - 1])]
            yield json.dumps({"prompt": ids}) + "\n"
