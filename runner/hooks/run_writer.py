"""The interface of a writer in a graph: a place of one's own for a run's metrics."""

import abc
from collections.abc import Mapping
from pathlib import Path


class RunWriter(abc.ABC):
    """A place where a run's metrics go too, one of `Experiment.writers`.

    What it raises ends no run: it is said, and tried again with the next write, in
    order. With several processes, only the first one writes.
    """

    @abc.abstractmethod
    def open(self, workdir: Path, *, start_step: int) -> None:
        """Begin, or go on, before the first `write` of a process.

        Args:
          workdir: The run's directory, in which files of its own may stand.
          start_step: The step that the run continues after, -1 where it begins: what an
            earlier attempt wrote of later steps is written again.
        """

    @abc.abstractmethod
    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write numbers by name, as `metrics.jsonl` names them; all or nothing."""

    def close(self) -> None:
        """End, after the last `write` of a process."""
        return None
