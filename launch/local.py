"""This machine: units one after another or side by side, each as N processes.

Finished units are left out, so that the same command goes on after any end. SIGTERM and
Ctrl-C are passed on once; the runs save a checkpoint. Linux: the processes do not
outlive the launcher, even after `kill -9` (see `leash.py`).
"""

import dataclasses
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from launch import options, shell
from launch.processes import Group
from launch.spec import Spec
from runner import sweeps
from runner.errors import UserError
from runner.sweeps import Unit, trust
from runner.workdir import lock

_INTERRUPTED = 128 + signal.SIGINT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Options):
    """Options of runs on this machine.

    Attributes:
      parallel: number of units that run at once.
    """

    parallel: int = 1

    def check(self, path: Path) -> None:
        super().check(path)
        if self.parallel < 1:
            raise UserError(f"--parallel must be at least 1, got {self.parallel}")


def render(spec: Spec, options: Options) -> str:
    """The commands, for a reader: `HOST:PORT` is chosen when a unit starts."""
    lines = ["#!/bin/sh", f"cd {shlex.quote(str(spec.directory))} || exit"]
    lines += shell.export(spec).splitlines()
    for unit in spec.units:
        lines += ["", f"# {unit.name}" + (": finished" if unit.finished else "")]
        for number in range(spec.processes):
            command = list(unit.arguments)
            if spec.processes > 1:
                command += spec.joined("HOST:PORT", number)
            beside = " &" if number + 1 < spec.processes else ""
            program = f"{shlex.join(spec.program)} \\\n  "
            lines.append(program + shell.words(command) + beside)
        if spec.processes > 1:
            lines.append("wait")
    return "\n".join(lines) + "\n"


def run(spec: Spec, options: Options) -> int:
    """Run every unfinished unit, then write the table and the picture.

    Returns:
      The exit code: 0 at the end and after SIGTERM, 130 after Ctrl-C, 1 if units
      failed, which are named.

    Raises:
      UserError: another launcher runs this sweep.
    """
    with lock.hold(spec.path / "lock"), _Stop() as stop:
        failed = _Run(spec, options, stop).all()
    if stop.signal is not None:
        return _INTERRUPTED if stop.signal == signal.SIGINT else 0
    sweeps.summarize(sweeps.load(spec.path))
    if failed:
        names = ", ".join(unit.name for unit in failed)
        print(f"launch: failed: {names}", file=sys.stderr)
    return 1 if failed else 0


class _Run:
    """The units of a spec while they run."""

    def __init__(self, spec: Spec, options: Options, stop: "_Stop") -> None:
        self._spec, self._stop = spec, stop
        self._at_once = options.parallel
        self._groups: list[Group] = []
        self._failed: list[Unit] = []
        self._awaited: list[Unit] = []
        self._signals_sent = 0

    def all(self) -> list[Unit]:
        """Run the units and return those that failed."""
        waiting = list(self._ready())
        while self._groups or (waiting and self._stop.signal is None):
            while waiting and self._free() and not self._waits_for(waiting[0]):
                self._begin(waiting.pop(0))
            self._pass_on()
            self._groups = [group for group in self._groups if self._goes_on(group)]
            time.sleep(0.05)
        done = [*self._failed, *(unit for unit in self._spec.units if unit.finished)]
        if left := len(self._spec.units) - len(done):
            number = self._spec.processes
            options = f"--processes={number} " if number > 1 else ""
            _say(
                f"{left} of {len(self._spec.units)} units are left; go on with: "
                f"python -m launch local {options}-- {self._flags()}"
            )
        return self._failed

    def _flags(self) -> str:
        return trust.flags(sweeps.load(self._spec.path))

    def _ready(self) -> Iterator[Unit]:
        for unit in self._spec.units:
            if unit.finished:
                _say(f"{self._head(unit)}: finished")
            else:
                yield unit

    def _free(self) -> bool:
        return len(self._groups) < self._at_once and self._stop.signal is None

    def _waits_for(self, unit: Unit) -> bool:
        """Return True while a run that outlived its launcher saves a checkpoint."""
        if not unit.in_use:
            return False
        if unit not in self._awaited:
            self._awaited.append(unit)
            _say(f"{self._head(unit)}: another process holds it; waiting")
        return True

    def _begin(self, unit: Unit) -> None:
        if unit.finished:
            return
        _say(self._head(unit))
        prefix = f"{unit.name}: " if self._at_once > 1 else ""
        self._groups.append(Group(self._spec, unit, prefix=prefix))

    def _pass_on(self) -> None:
        """Send each signal on to every process; a second one ends them."""
        while self._signals_sent < self._stop.count:
            self._signals_sent += 1
            for group in self._groups:
                group.send(self._stop.signal or signal.SIGTERM)

    def _goes_on(self, group: Group) -> bool:
        if group.running:
            return True
        unit = group.unit
        stopped = self._stop.signal is not None
        if unit.finished:
            _say(f"{self._head(unit)}: finished")
        elif group.died is None or stopped:
            _say(f"{self._head(unit)}: stopped")
        else:
            self._failed.append(unit)
            _say(f"{self._head(unit)}: {group.failed()}")
        return False

    def _head(self, unit: Unit) -> str:
        number = self._spec.units.index(unit) + 1
        return f"unit {number}/{len(self._spec.units)} {unit.label}".rstrip()


class _Stop:
    """Counts SIGTERM and SIGINT instead of obeying them."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.count = 0

    def __enter__(self) -> "_Stop":
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._before = {n: signal.signal(n, self._ask) for n in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        self.count += 1


def _say(line: str) -> None:
    print(line, flush=True)
