"""What is to be run, whoever runs it."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from runner.sweeps import Unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """Units whose graphs are frozen, and the processes that each is run by.

    name:        of the whole, for a scheduler's list.
    path:        the directory of the sweep; every process has to see it.
    directory:   where processes are started: relative paths in a graph begin there.
    python:      the interpreter, where processes share this machine's file system.
    processes:   of one unit: one a machine, but for `local`.
    devices:     accelerators that each process asks for; 0: whatever is there.
    environment: variables that every process gets.
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
        """What runs one process on this machine's file system, without its flags."""
        return [self.python, "-m", "runner.main"]

    @property
    def label(self) -> str:
        """`name` as a DNS label: what Kubernetes and the clouds take for a name."""
        label = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        label = label if label[:1].isalpha() else f"run-{label}"
        return label[:32].strip("-")


def result(unit: Unit) -> Path:
    """The file that only a finished unit has."""
    return unit.path / "result.json"
