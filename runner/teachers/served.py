"""A teacher behind a server, whose answers become records as training goes."""

import dataclasses
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from runner.data.dataset import Dataset
from runner.data.joined_rows import Join
from runner.data.labels import require_tokens
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError
from runner.served.store import ServedRecords, Server
from runner.teachers.base import Teacher, TeacherContext, digest
from runner.teachers.offline import LoadedRecords, record_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedTeacher(Teacher):
    """A model behind a server of log-probabilities: vLLM and its like, or llama.cpp.

    A row that is first wanted is asked for, and its best entries are kept as a record
    in the cache: the second epoch, and other runs on the same data, ask nothing. How it
    is asked is found out from the server's first answer (`runner.served.protocols`);
    a server that ignores what it is asked is refused. One that is away is waited for,
    and the run says so. Losses read it as any records of best entries (`TopK`).

    Attributes:
      url: `http://HOST:PORT`; nothing of the result depends on it.
      model: Name of the model at the server, which stands for its weights: another
        model wants another name.
      best: Entries of each token; vLLM must allow as many (`--max-logprobs`).
      requests: Rows that are asked for at once.
      patience: Seconds without an answer after which the run ends.

    Raises:
      ValueError: A number is below 1, or the address is no web address.
    """

    url: str
    model: str
    best: int = 64
    requests: int = 8
    patience: float = 3600.0

    def __post_init__(self):
        if not _is_address(self.url):
            raise ValueError(f"url must be http://HOST:PORT, got {self.url!r}")
        for name in ("best", "requests"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)}"
                )
        if not self.patience > 0:
            raise ValueError(f"patience must be positive, got {self.patience}")

    def check(self) -> None:
        """Nothing: the cache may hold all that a run needs."""

    def identity(self) -> str:
        return digest(f"served {self.model} {self.best}")

    def load(self, context: TeacherContext) -> "LoadedServed":
        require_tokens(context.vocabulary)
        assert isinstance(context.vocabulary, Vocabulary)
        server = Server(
            url=self.url,
            model=self.model,
            best=self.best,
            requests=self.requests,
            patience=self.patience,
        )
        records = ServedRecords(
            server, context.vocabulary, cache_directory=context.cache
        )
        return LoadedServed(records, self.identity())


def _is_address(url: str) -> bool:
    """Return whether a server may stand there: no request says so but by waiting."""
    try:
        parts = urllib.parse.urlsplit(url)
        named = parts.hostname and parts.port != 0  # raises where it is no number
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    return bool(named) and plain and parts.scheme in ("http", "https")


class LoadedServed(LoadedRecords):
    """A served teacher, on any rows."""

    records: ServedRecords

    def __init__(self, records: ServedRecords, identity: str):
        super().__init__(records)
        self._identity = identity

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "served", "identity": self._identity}

    def covers(self, dataset: Dataset) -> bool:
        return True

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        if dataset.rollouts is not None:
            raise UserError(
                "teacher: a ServedTeacher scores rows of the data, and train_data is "
                "OnPolicy; wanted: a model, as OnlineTeacher"
            )
        return [record_of(self.records.of(dataset))]
