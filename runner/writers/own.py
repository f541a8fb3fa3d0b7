"""A graph's own writer, behind CLU's interface."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runner.hooks.run_writer import RunWriter
from runner.writers.base import PartialWriter


class OwnWriter(PartialWriter):
    """Scalars of a run, handed to a `RunWriter`, which is opened at the first."""

    def __init__(self, writer: RunWriter, workdir: Path, *, start_step: int):
        self._writer, self._workdir, self._start = writer, workdir, start_step
        self._opened = False

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        if not self._opened:
            self._writer.open(self._workdir, start_step=self._start)
            self._opened = True
        numbers = {name: np.asarray(value).item() for name, value in scalars.items()}
        self._writer.write(int(step), numbers)

    def close(self) -> None:
        if self._opened:
            self._writer.close()
