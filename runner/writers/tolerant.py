"""Writers whose failures do not end a run: said, tried again, counted at the end."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from runner.writers.clu import metric_writers
from runner.writers.terminal import Terminal

_MOST_WAITING = 10_000  # calls kept for another try; the oldest go first


class Failures:
    """Files of a run that could not be written, as far as they are not by now.

    Attributes:
      names: of them; empty where all is written.
    """

    def __init__(self, terminal: Terminal):
        self.names: list[str] = []
        self._terminal = terminal

    def add(self, name: str, error: Exception) -> None:
        """Say once that a file cannot be written, and why."""
        if name not in self.names:
            self.names.append(name)
            reason = getattr(error, "strerror", None) or str(error) or repr(error)
            reason = reason.splitlines()[0]
            self._terminal.print(
                f"{name} cannot be written ({reason}); the run goes on"
            )

    def remove(self, name: str) -> None:
        """Say that a file is written after all."""
        if name in self.names:
            self.names.remove(name)
            self._terminal.print(f"{name} is written again")

    @contextlib.contextmanager
    def caught(self, name: str) -> Iterator[None]:
        """Catch what goes wrong with a file in the block."""
        try:
            yield
        except Exception as error:  # a disk's, a network's, a drawing's
            self.add(name, error)
        else:
            self.remove(name)


class TolerantWriter(metric_writers.MetricWriter):
    """A writer that keeps what it could not write, and tries it again in order."""

    def __init__(self, writer: Any, *, name: str, failures: Failures):
        """Wrap `writer`.

        Args:
          writer: of CLU's interface; all or nothing of a call is written.
          name: of its file, for messages.
          failures: notes what is not written.
        """
        self._writer, self._name, self._failures = writer, name, failures
        self._waiting: deque[Callable[[], Any]] = deque(maxlen=_MOST_WAITING)

    def write_scalars(self, step, scalars) -> None:
        self._later("write_scalars", step, scalars)

    def write_texts(self, step, texts) -> None:
        self._later("write_texts", step, texts)

    def write_images(self, step, images) -> None:
        self._later("write_images", step, images)

    def write_videos(self, step, videos) -> None:
        self._later("write_videos", step, videos)

    def write_audios(self, step, audios, *, sample_rate) -> None:
        self._later("write_audios", step, audios, sample_rate=sample_rate)

    def write_histograms(self, step, arrays, num_buckets=None) -> None:
        self._later("write_histograms", step, arrays, num_buckets)

    def write_summaries(self, step, values, metadata=None) -> None:
        self._later("write_summaries", step, values, metadata)

    def write_hparams(self, hparams) -> None:
        self._later("write_hparams", hparams)

    def flush(self) -> None:
        self._later("flush")

    def close(self) -> None:
        self._later("flush")  # a last try
        try:
            self._writer.close()
        except Exception as error:
            self._failures.add(self._name, error)

    def _later(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Make a call after all that failed before it."""
        self._waiting.append(lambda: getattr(self._writer, method)(*args, **kwargs))
        with self._failures.caught(self._name):
            while self._waiting:
                self._waiting[0]()
                self._waiting.popleft()
