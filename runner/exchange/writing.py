"""Records of collected scores."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from runner.data.dataset import Dataset
from runner.data.text.vocabulary import Vocabulary
from runner.exchange.formats.scored import BadScores, Scores
from runner.exchange.spool import Spool
from runner.records import best_entries, shards
from runner.records import format as record_format
from runner.records.layout import Layout
from runner.records.manifest import Manifest, Origin

SHARD = 1024  # rows in a file
ROWS_AT_A_TIME = 32
_EVERYTHING = 1e-4  # away from 1, of the mass of entries that were renormalized


class Writer:
    """Shards and manifest of the records of all rows of a dataset."""

    def __init__(
        self,
        dataset: Dataset,
        spool: Spool,
        scores: Scores,
        *,
        entries: int,
        temperature: float,
        partial: bool,
        weights: str,
    ) -> None:
        """Choose the layout of the records.

        Args:
          dataset: The rows.
          spool: Scores of each position of them.
          scores: What is known of those.
          entries: Best ones of a position.
          temperature: At which they were taken.
          partial: Whether some positions with a target have no scores.
          weights: Digest that stands for the teacher's.
        """
        vocabulary = dataset.vocabulary
        assert isinstance(vocabulary, Vocabulary)  # classes are refused before
        self._vocabulary, self._dataset, self._spool = vocabulary, dataset, spool
        self._entries, self._temperature = entries, temperature
        self._rounding = scores.rounding
        self.normalized = scores.normalized and not self._holds_everything()
        self._origin = Origin(
            teacher=scores.teacher,
            weights=weights,
            dtype="imported",
            vocabulary=vocabulary.digest,
            end=vocabulary.end,
            data=dataset.fingerprint,
        )
        self._layout = Layout(
            mode="top_k",
            entries=entries,
            vocab_size=vocabulary.size,
            sequence_length=dataset.targets_per_row,
            temperatures=(temperature,) if self.normalized else (),
            origin=self._origin.digest,
            partial=partial,
        )

    def write(self, directory: Path) -> Manifest:
        """Write everything.

        Raises:
          BadScores: Entries of a position are no probabilities.
          UserError: The directory cannot be written.
        """
        count = len(self._dataset)
        of = math.ceil(count / SHARD)
        for number in range(of):
            rows = shards.shard_rows(number, of=of, rows=count)
            records = self._records(rows)
            shards.write_shard(
                directory, number, of, records, self._layout, first=rows.start
            )
        manifest = shards.seal(
            directory,
            of=of,
            layout=self._layout,
            origin=self._origin,
            records=count,
            vocabulary=self._vocabulary,
        )
        assert manifest is not None  # all shards are there
        return manifest

    def _records(self, rows: range) -> Iterator[bytes]:
        for start in range(rows.start, rows.stop, ROWS_AT_A_TIME):
            numbers = np.arange(start, min(start + ROWS_AT_A_TIME, rows.stop))
            yield from record_format.encode_batch(
                self._layout,
                indices=numbers,
                rows=self._dataset.rows(numbers),
                stored=self._stored(numbers),
            )

    def _stored(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays of some rows, as `encode_batch` wants them."""
        # Positions without scores, which are padding, get entries that count nothing.
        known = self._spool.known[numbers][..., None]
        best = np.s_[numbers, :, : self._entries]
        ids = np.where(known, self._spool.ids[best], np.arange(self._entries))
        log_p = np.where(known, self._spool.scores[best], 0.0)
        if self.normalized:
            mass = best_entries.mass(log_p)
            self._check_mass(np.where(known[..., 0], mass, 0.0), numbers)
        return best_entries.stored(
            ids,
            log_p,
            known[..., 0],
            temperature=self._temperature,
            rounding=self._rounding if self.normalized else None,
        )

    def _holds_everything(self) -> bool:
        """Tell log-probabilities over the entries alone: they sum to 1 everywhere."""
        if self._entries >= self._vocabulary.size:
            return False
        for start in range(0, len(self._dataset), ROWS_AT_A_TIME):
            rows = np.s_[start : start + ROWS_AT_A_TIME]
            best = self._spool.scores[rows][..., : self._entries]
            scores = best[self._spool.known[rows]]
            # A damaged score may be beyond what exp can hold.
            log_mass = np.logaddexp.reduce(scores.astype(np.float64), axis=-1)
            if (np.abs(np.expm1(np.minimum(log_mass, 1.0))) > _EVERYTHING).any():
                return False
        return True

    def _check_mass(self, mass: np.ndarray, numbers: np.ndarray) -> None:
        limit = best_entries.largest_mass(self._rounding)
        if not (mass <= limit).all():
            row = numbers[int((mass > limit).any(-1).argmax())]
            raise BadScores(
                f"entries of row {row} have a mass of {mass.max():.4g}: they are no "
                "log-probabilities of one softmax"
            )
