"""Records of rows, asked of a server when they are first wanted."""

import dataclasses
import functools
import threading

import numpy as np

from runner.data import cache
from runner.data.dataset import Dataset
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError
from runner.exchange.formats.scored import BadScores, Scored
from runner.exchange.segments import spans
from runner.records import best_entries
from runner.records import format as record_format
from runner.records.layout import Layout
from runner.records.manifest import Manifest, Origin
from runner.records.reader import Records
from runner.served import threads
from runner.served.client import Client, Refused
from runner.served.protocols import Protocol, discover

ROUNDING = 2.0**-24  # of scores, relative: float32 written as decimals
FOLDER = "served"
_PROBED = 8  # tokens that the protocol is found out with


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """Address, model and limits of a source of scores.

    Attributes:
      url: Of the server.
      model: Its name there; it stands for the weights.
      best: Entries of each token.
      requests: Rows that are asked about at once.
      patience: Seconds that the run waits for an answer.
    """

    url: str
    model: str
    best: int
    requests: int = 8
    patience: float = 3600.0


class ServedRecords(Records):
    """Records of a dataset, one file each, of which those that lack are asked for.

    Files lie in a folder that is named by all that they depend on but the address of
    the server, so that runs share them. Each is a record, checked as any other, with
    the sha256 that `runner.data.cache` adds: one that is damaged is asked for again.
    """

    def __init__(
        self,
        server: Server,
        vocabulary: Vocabulary,
        dataset: Dataset | None = None,
        *,
        cache_directory: str = "",
    ):
        """Ask for nothing yet.

        Args:
          server: Where scores come from.
          vocabulary: Of the data.
          dataset: The rows; None before they are known.
          cache_directory: Of the files; "" is the usual one.
        """
        self._server, self._vocabulary, self._dataset = server, vocabulary, dataset
        self._cache_directory = cache_directory
        self._client = Client(server.url, patience=server.patience)
        self._discovering = threading.Lock()
        self._known_protocol: Protocol | None = None
        layout, origin = _layout(server, vocabulary, dataset)
        super().__init__(
            cache.directory(cache_directory) / FOLDER / layout.tag.hex(),
            Manifest(layout=layout, origin=origin, shards=(), code=FOLDER),
        )

    def of(self, dataset: Dataset) -> "ServedRecords":
        """Return the records of a dataset's rows."""
        return ServedRecords(
            self._server,
            self._vocabulary,
            dataset,
            cache_directory=self._cache_directory,
        )

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def _rows(self) -> Dataset:
        assert self._dataset is not None  # `of` has named it
        return self._dataset

    def __reduce__(self):
        raise TypeError("records of a server stay in their process")

    def read_bytes(self, numbers: np.ndarray) -> list[bytes]:
        """Return the records of some rows, which are asked for where they lack.

        Raises:
          UserError: The server does not give them.
        """
        return threads.each(
            self._record,
            numbers.tolist(),
            at_once=self._server.requests,
            give_up=self._client.give_up,
        )

    def _record(self, number: int) -> bytes:
        path = self.directory / f"{number // 1000:06}" / f"{number:09}.record"
        return bytes(cache.fetch(path, functools.partial(self._asked, number)))

    def _asked(self, number: int) -> list[bytes]:
        rows = self._rows.rows(np.array([number]))
        return record_format.encode_batch(
            self.layout,
            indices=[number],
            rows=rows,
            stored=self.scores({name: x[0] for name, x in rows.items()}),
        )

    def scores(self, row: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what the server says of a row, as `encode_batch` wants it, `[1 ...]`.

        Raises:
          UserError: It does not answer, or not as it should.
        """
        # Positions without scores, which are padding, get entries that count nothing.
        length, best = len(row["tokens"]), self.layout.entries
        ids = np.broadcast_to(np.arange(best), (1, length, best)).copy()
        log_p, known = np.zeros((1, length, best)), np.zeros((1, length), bool)

        # What each document has of the row is a sequence of its own.
        parts = list(spans(row["segment_ids"]))
        sequences = [
            [*row["tokens"][at : at + n].tolist(), int(row["targets"][at + n - 1])]
            for at, n in parts
        ]
        for (at, n), scored in zip(parts, self._score(sequences), strict=True):
            place = np.s_[0, at : at + n]
            ids[place], log_p[place] = self._best(scored, n)
            known[place] = True
        return best_entries.stored(
            ids, log_p, known, temperature=1.0, rounding=ROUNDING
        )

    def _score(self, sequences: list[list[int]]) -> list[Scored]:
        if not sequences:
            return []
        try:
            return self._protocol(sequences[0]).score(sequences)
        except (BadScores, Refused) as error:
            reason = " ".join(map(str, error.args))
            raise UserError(f"teacher: {self._server.url}: {reason}") from error

    def _best(self, scored: Scored, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the best entries of a sequence's places, `[length best]` each.

        Raises:
          BadScores: There are fewer, or they are no log-probabilities.
        """
        best = self.layout.entries
        if len(scored.counts) < length or scored.counts.min(initial=best) < best:
            raise UserError(
                f"teacher: {self._server.url} gives fewer than {best} entries a place"
            )
        order = np.argsort(-scored.scores[:length], -1, kind="stable")[:, :best]
        ids, log_p = (
            np.take_along_axis(x[:length], order, -1)
            for x in (scored.ids, scored.scores)
        )
        mass = best_entries.mass(log_p)
        if not (mass <= best_entries.largest_mass(ROUNDING)).all():
            raise UserError(
                f"teacher: {self._server.url} gives entries with a mass of "
                f"{mass.max():.4g}: they are no log-probabilities of one softmax"
            )
        return ids, log_p

    def _protocol(self, tokens: list[int]) -> Protocol:
        """Return the form of requests, which the first answer decides."""
        with self._discovering:
            if self._known_protocol is None:
                self._known_protocol = discover(
                    self._client,
                    model=self._server.model,
                    best=self._server.best,
                    tokens=tokens[:_PROBED],
                    vocabulary=self._vocabulary,
                )
            return self._known_protocol


def _layout(
    server: Server, vocabulary: Vocabulary, dataset: Dataset | None
) -> tuple[Layout, Origin]:
    origin = Origin(
        teacher=f"{server.model}, served",
        weights=server.model,
        dtype="served",
        vocabulary=vocabulary.digest,
        end=vocabulary.end,
        data="" if dataset is None else dataset.fingerprint,
    )
    layout = Layout(
        mode="top_k",
        entries=min(server.best, vocabulary.size),
        vocab_size=vocabulary.size,
        sequence_length=1 if dataset is None else dataset.targets_per_row,
        origin=origin.digest,
    )
    return layout, origin
