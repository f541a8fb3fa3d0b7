"""Records from the scores of another program, bound to rows by their ids."""

import contextlib
import dataclasses
import hashlib
import itertools
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from runner.data.dataset import Dataset
from runner.data.labels import require_tokens
from runner.data.text.record_files import sha256_of
from runner.errors import UserError
from runner.exchange import kinds
from runner.exchange.coverage import coverage, refuse_shifted
from runner.exchange.formats.json_lines import files_of
from runner.exchange.formats.scored import BadScores, Scored, Scores
from runner.exchange.segments import Segments
from runner.exchange.spool import Spool
from runner.exchange.writing import Writer
from runner.records.manifest import Manifest

_MOST_TEMPERATURE = 1e3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """A user's own word on scores, beyond what they say themselves.

    Attributes:
      temperature: At which they were taken; None for what the format says.
      entries: Best entries of a position to keep; None for as many as each has.
      partial: Whether positions may lack scores; terms that read the teacher do not
        count those.

    Raises:
      UserError: A number is not positive.
    """

    temperature: float | None = None
    entries: int | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        if self.entries is not None and self.entries < 1:
            raise UserError(f"entries must be at least 1, got {self.entries}")
        t = self.temperature
        if t is not None and not 0 < t < _MOST_TEMPERATURE:
            raise UserError(f"temperature must be positive, got {t}")


def import_records(
    kind: str, source: Path, to: Path, dataset: Dataset, choices: Choices
) -> Manifest:
    """Write the records of a dataset's rows from the scores in `source`.

    Nothing of them is at `to` before all of them are.

    Args:
      kind: Of the scores, one of `kinds.READERS`.
      source: A file, or a folder of them.
      to: A directory that is not there yet.
      dataset: The rows that they teach.
      choices: What the scores do not say.

    Raises:
      UserError: The scores are malformed, of other rows, one position off, do not
        cover the rows, or are no probabilities; or `to` exists.
    """
    if to.exists():
        raise UserError(f"{to} exists; imported records want a new directory")
    require_tokens(dataset.vocabulary)
    read = kinds.reader(kind)
    to.parent.mkdir(parents=True, exist_ok=True)
    with _working_directory(to) as working:
        try:
            scores = read(source)
            importer = _Importer(scores, dataset, choices, source=source)
            importer.collect(working)
            manifest = importer.write(working / "records")
        except BadScores as error:
            raise UserError(f"{kind}: {error}") from error
        except OSError as error:
            place = error.filename or source
            raise UserError(f"{kind}: {place}: {error.strerror}") from error
        (working / "records").rename(to)
    return manifest


@contextlib.contextmanager
def _working_directory(beside: Path) -> Iterator[Path]:
    """A directory on the same disk that is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix=f".{beside.name}.", dir=beside.parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class _Importer:
    """Scores on their way to the records of a dataset."""

    def __init__(
        self, scores: Scores, dataset: Dataset, choices: Choices, *, source: Path
    ) -> None:
        if choices.temperature is None and scores.temperature is None:
            raise UserError(
                f"{source} does not say at which temperature its scores were taken; "
                "say it with --temperature=1"
            )
        self._scores, self._dataset, self._source = scores, dataset, source
        self._choices = choices
        self._temperature = choices.temperature or scores.temperature or 1.0
        self._counts = (math.inf, 0)  # least and most entries of a position

    def collect(self, working: Path) -> None:
        """Read all scores, and refuse what does not fit the rows."""
        segments = Segments(self._dataset)
        first = next(self._scores.sequences, None)
        if first is None:
            raise BadScores(f"{self._source} holds no scores")
        entries = self._choices.entries
        self._spool = Spool(
            working,
            rows=len(self._dataset),
            length=self._dataset.targets_per_row,
            width=entries or max(int(first.counts.max(initial=0)), 1),
            least=entries or 1,
        )
        total = 0
        for scored in itertools.chain([first], self._scores.sequences):
            total += 1
            self._check_ids(scored)
            self._count(scored)
            for segment in segments.that_begin(scored.tokens):
                self._spool.add(segment, scored)
        self._entries = self._number_of_entries()
        self._check_rows(first, total)

    def write(self, directory: Path) -> Manifest:
        """Write shards and manifest."""
        writer = Writer(
            self._dataset,
            self._spool,
            self._scores,
            entries=self._entries,
            temperature=self._temperature,
            partial=self._partial,
            weights=_digest(self._source),
        )
        return writer.write(directory)

    def _count(self, scored: Scored) -> None:
        counts = scored.counts[scored.counts > 0]
        if len(counts):
            least, most = self._counts
            least, most = min(least, int(counts.min())), max(most, int(counts.max()))
            self._counts = (least, most)

    def _check_ids(self, scored: Scored) -> None:
        largest = int(scored.ids.max(initial=0))
        size = self._dataset.vocabulary.size
        if largest >= size:
            raise BadScores(
                f"{scored.place}: holds id {largest}, outside of the data's vocabulary "
                f"of {size} tokens"
            )

    def _begins_otherwise(self, first: Scored, total: int) -> str:
        row = self._dataset.rows(np.array([0]))["tokens"][0]
        theirs, ours = (" ".join(map(str, x[:6].tolist())) for x in (first.tokens, row))
        return (
            f"no row has scores throughout by any of {total:,} sequences: "
            f"{first.place} begins {theirs}, row 0 begins {ours}"
        )

    def _number_of_entries(self) -> int:
        least, most = self._counts
        if self._choices.entries:
            return self._choices.entries
        if most > least + 1:  # one more is that of the token itself
            raise BadScores(
                f"{self._source} holds {least} to {most} entries a position; "
                f"--entries={least} keeps so many of each"
            )
        return int(least)

    def _check_rows(self, first: Scored, total: int) -> None:
        """Refuse rows without scores, and scores that are one position off."""
        rates = coverage(self._spool, self._dataset, entries=self._entries)
        rows = len(self._dataset)
        self._partial = bool(rates.lacking)
        if rates.lacking == rows and not (self._choices.partial and rates.scored):
            raise BadScores(self._begins_otherwise(first, total))
        if rates.lacking and not self._choices.partial:
            raise BadScores(
                f"{rates.lacking:,} of {rows:,} rows lack scores, first row "
                f"{rates.row} at position {rates.position}; with --partial the teacher "
                "teaches what it scored alone"
            )
        refuse_shifted(str(self._source), rates)


def _digest(source: Path) -> str:
    """32 hexadecimal digits of the files, which stand for weights nobody names."""
    files = [source] if source.is_file() else files_of(source, ("",))
    text = " ".join(sha256_of(path) for path in files if path.is_file())
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
