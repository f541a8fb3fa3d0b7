"""Contracts of graph objects: `Checked` before any work, and `Job`, the root."""

import abc
from typing import Any


class Checked:
    """A graph object with cheap checks that its constructor should not make."""

    def check(self) -> None:
        """Refuse what cannot work, before any device work; nothing by default.

        Raises:
          UserError: a file is missing, or parts do not fit each other.
        """
        return

    def check_shapes(self) -> None:
        """Do the checks of a dry run, which reads no file; by default, all of them.

        Raises:
          UserError: see `check`.
        """
        self.check()

    def check_resumed(self) -> None:
        """Do the checks of a run that goes on from its checkpoint; by default, all.

        Raises:
          UserError: see `check`.
        """
        self.check()


class Job(Checked, abc.ABC):
    """The root of a graph: what a command builds and runs.

    Concrete jobs are `runner.Experiment` and `runner.RecordTeacher`.
    """

    def init_distributed(self) -> int:
        """Connect the processes of this job; by default there is one.

        Returns:
          The number of this process. Process 0 writes the work directory.

        Raises:
          UserError: the others do not come, or the settings do not fit the devices.
        """
        return 0

    @abc.abstractmethod
    def run(self, workdir: Any) -> None:
        """Do the work, or what is left of it.

        Args:
          workdir: a `runner.workdir.workdir.Workdir`. Untyped here, because a work
            directory saves graphs and so imports this package.
        """
