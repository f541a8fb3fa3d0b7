"""A launch, the same for every target."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from runner.sweeps import Unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """Units whose graphs are frozen, and the processes that each is run by.

    Attributes:
      name: name of the launch in a scheduler's list.
      path: the directory of the sweep; every process must see it.
      directory: working directory of the processes, for relative paths in a graph.
      python: the interpreter, where processes share this machine's file system.
      units: the units, in the order of the points.
      processes: processes of one unit: one a machine, except for `local`.
      devices: accelerators that each process asks for; 0 for all that are there.
      environment: variables set for every process.
    """

    name: str
    path: Path
    directory: Path
    python: str
    units: tuple[Unit, ...]
    processes: int = 1
    devices: int = 0
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def program(self) -> list[str]:
        """The command of one process on this machine, without its flags."""
        return [self.python, "-m", "runner.main"]

    def joined(self, coordinator: str, number: int) -> list[str]:
        """Return the flags by which one of a unit's processes finds the others."""
        return [
            f"--gin.distributed.coordinator={coordinator}",
            f"--gin.distributed.processes={self.processes}",
            f"--gin.distributed.process={number}",
        ]

    @property
    def label(self) -> str:
        """`name` as a DNS label, as Kubernetes and the clouds require of names."""
        label = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        label = label if label[:1].isalpha() else f"run-{label}"
        return label[:32].strip("-")


def result(unit: Unit) -> Path:
    """The file that only a finished unit has."""
    return unit.path / "result.json"
