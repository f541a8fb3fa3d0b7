"""The job that runs a teacher over data and stores its outputs."""

import contextlib
import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import UserError
from runner.graph.job import Job
from runner.recording.modes import Mode, TopK
from runner.records.layout import CODINGS
from runner.teachers.base import Teacher

if TYPE_CHECKING:  # the data rooms and the recorder wait for `run`
    from runner.data import DataSource
    from runner.recording.recorder import Recorder
    from runner.workdir.workdir import Workdir


_PATIENCE = 300.0  # seconds
_COMPRESSIONS = r"uncompressed|snappy|(?:zstd|brotli)(?::-?\d+)?"  # of ArrayRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordTeacher(Job):
    """Run `teacher` over `data` and store its outputs, a record a row.

    Attributes:
      teacher: The one to record.
      data: Rows that it is run on.
      mode: Choice of the entries that are stored at each token.
      temperatures: Those that losses will ask for; a log-normaliser is stored for each.
        `Sampled` draws at one. `Full` needs none.
      batch_size: Rows that are computed at once, of all devices.
      shard_size: Rows in a file, as equal as can be; a kill can lose so many.
      compression: Of the files: `"uncompressed"`, or `"zstd:3"` for remote storage.
      coding: Of `TopK` records: `"plain"`; `"packed"`, the same numbers in 0.6 of the
        bytes, at a millisecond a row; `"rounded"`, half the bytes, at a KL from what is
        plain of 2e-6 nats a token. An older Retort refuses to read the last two.
      seed: Of the draws.

    Raises:
      ValueError: A number is below 1, a temperature not positive or not what the mode
        takes, or the compression unknown.
    """

    teacher: Teacher
    data: "DataSource"
    mode: Mode = dataclasses.field(default_factory=TopK)
    temperatures: Sequence[float] = (1.0,)
    batch_size: int = 32
    shard_size: int = 1024
    compression: str = "uncompressed"
    coding: str = "plain"
    seed: int = 0

    def __post_init__(self):
        for field in ("batch_size", "shard_size"):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"{field} must be at least 1, got {getattr(self, field)}"
                )
        if not 0 <= self.seed < 2**32:  # JAX drops higher bits: two seeds as one
            raise ValueError(f"seed must be 0 to 2**32 - 1, got {self.seed}")
        if not all(t > 0 for t in self.temperatures):
            raise ValueError(f"temperatures must be positive, got {self.temperatures}")
        if not re.fullmatch(_COMPRESSIONS, self.compression):
            raise ValueError(
                "compression must be 'uncompressed', 'snappy', 'zstd:3' or 'brotli:6', "
                f"got {self.compression!r}"
            )
        if self.coding not in CODINGS:
            raise ValueError(
                f"coding must be one of {', '.join(CODINGS)}, got {self.coding!r}"
            )
        if self.coding != "plain" and not isinstance(self.mode, TopK):
            raise ValueError(f"coding {self.coding!r} is of TopK records alone")
        self.mode.stored_temperatures(self.temperatures)

    def init_distributed(self) -> int:
        """The number of this process; those that record together need no connection."""
        from runner import runtime

        return runtime.current().recording.process

    def run(self, workdir: "Workdir") -> None:
        """Record the missing shards; a kill loses at most the shards under way.

        Raises:
          UserError: The teacher does not fit the data, or a logit is not finite.
          SystemExit: A signal stopped it.
        """
        from runner.machine import out_of_memory
        from runner.machine.stop_signals import Stop
        from runner.records import shards
        from runner.writers.terminal import Terminal

        # Open: the first process has begun the directory that the others join.
        terminal = Terminal()
        _wait_for_first(workdir)
        with out_of_memory.explained():
            recorder = self.recorder()
        for caution in recorder.cautions:
            terminal.print(caution)
        for line in workdir.record_start():
            terminal.print(line)
        workdir.record_data(recorder.describe())

        # Record; temporaries may be another process's shards under way.
        directory = workdir.path / "records"
        if workdir.writes and directory.is_dir() and recorder.alone:
            shards.remove_temporaries(directory)
        begin = time.monotonic()
        with (
            contextlib.closing(terminal),
            Stop() as stop,
            out_of_memory.explained(),
        ):
            written = self._write(recorder, directory, terminal, lambda: stop.requested)
        if stop.requested:
            terminal.print(f"stopped; go on with: {workdir.go_on}")
            sys.exit(stop.exit_code)

        # Seal, once every process's shards are there, and report.
        manifest = recorder.seal(directory)
        if manifest is None:
            return terminal.print("this process's shards are written; others are not")
        seconds = time.monotonic() - begin
        _write_cost(workdir, {"rows": written, "seconds": seconds})
        size = sum(shard.bytes for shard in manifest.shards)
        tokens = manifest.records * manifest.layout.sequence_length
        terminal.print(
            f"{directory}: {manifest.records:,} records of "
            f"{manifest.layout.sequence_length} tokens, {size / 1e6:,.1f} MB, "
            f"{size / tokens:.1f} bytes a token; the next token is among the entries "
            f"in {100 * manifest.hit_rate:.1f} % of places\n"
            f"look: runner-records inspect {workdir.path}"
        )

    def recorder(self) -> "Recorder":
        """Load teacher and data onto the devices."""
        from runner.recording.recorder import Recorder

        return Recorder(
            teacher=self.teacher,
            data=self.data,
            mode=self.mode,
            temperatures=self.temperatures,
            batch_size=self.batch_size,
            shard_size=self.shard_size,
            coding=self.coding,
            seed=self.seed,
        )

    def _write(
        self, recorder: "Recorder", directory: Path, terminal: Any, stopped: Any
    ) -> int:
        """Write the missing shards of this process; return their number of rows."""
        from runner.records import shards
        from runner.writers.bars import Bar, percent

        written = 0
        for number in recorder.missing(directory):
            rows = shards.shard_rows(
                number, of=recorder.num_shards, rows=len(recorder.dataset)
            )
            records = recorder.records(rows)
            try:
                shards.write_shard(
                    directory,
                    number,
                    recorder.num_shards,
                    _until(records, stopped),
                    recorder.layout,
                    first=rows[0],
                    compression=self.compression,
                )
            except _Stopped:
                break
            written += len(rows)
            done, rows_in_all = rows[-1] + 1, len(recorder.dataset)
            text = f"{percent(done / rows_in_all)}  {done:,} of {rows_in_all:,} rows"
            terminal.show(Bar("recording", done / rows_in_all, text))
        return written


def _wait_for_first(workdir: "Workdir") -> None:
    """Wait until process 0 has made the work directory."""
    config = workdir.path / "config.json"
    until = time.monotonic() + _PATIENCE
    while not workdir.writes and not config.exists():
        if time.monotonic() > until:
            raise UserError(
                f"process 0 has not begun in {workdir.path}: no {config.name}"
            )
        time.sleep(0.1)


class _Stopped(Exception):
    """A signal came in the middle of a shard."""


def _until(records: Iterator[bytes], stopped: Any) -> Iterator[bytes]:
    for record in records:
        if stopped():
            raise _Stopped
        yield record


def _write_cost(workdir: "Workdir", content: dict[str, Any]) -> None:
    """Note the seconds, for the tables that set a teacher's cost beside its use."""
    from runner import atomic_files

    path = workdir.path / "recording.json"
    if workdir.writes and content["rows"]:
        atomic_files.write_atomic(path, json.dumps(content, indent=1) + "\n")
