"""The processes that run one unit on this machine, from their start to their end."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from launch import leash
from launch.spec import Spec
from runner.files import confined
from runner.sweeps import Unit, failure

_PATIENCE = 60.0  # Seconds that the others have, once one has died, to see it.
_GRACE = 30.0  # Seconds between SIGTERM and SIGKILL.


@dataclasses.dataclass
class Tail:
    """Lines that are added to a file, shown as they come.

    A file, not a pipe: a run goes on writing when nobody reads any more.
    """

    path: Path
    to: TextIO
    prefix: str = ""
    _read: int = 0

    def show(self) -> None:
        """Print the complete lines that are new since the last call."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole + end)
        if end:
            for line in whole.decode(errors="replace").split("\n"):
                print(f"{self.prefix}{line}", file=self.to)
            self.to.flush()


class Group:
    """The processes of one unit, each with the number that it has among them.

    The first one's output is shown; of the others, what they write to stderr. One that
    dies gives the others a minute to see it and say why they end; then they are told
    to, and then killed.
    """

    def __init__(self, spec: Spec, unit: Unit, *, prefix: str = "") -> None:
        failure.forget_failure(unit)
        self.unit = unit
        self.died: int | None = None
        self._since: float | None = None
        self._terminated = self._killed = False
        self._tails: list[Tail] = []
        self._children: list[subprocess.Popen[bytes]] = []
        for number, command in enumerate(commands(spec, unit)):
            self._start(spec, number, command, prefix)

    @property
    def codes(self) -> Sequence[int | None]:
        """Exit codes, None while a process runs."""
        return [child.poll() for child in self._children]

    @property
    def running(self) -> bool:
        """Return True while a process runs; print new output.

        Processes that outlive a dead one by `_PATIENCE` are ended.
        """
        codes = self.codes
        for tail in self._tails:
            tail.show()
        if self.died is None and any(codes):
            self.died = next(number for number, code in enumerate(codes) if code)
            self._since = time.monotonic()
        if self._since is not None and None in codes:
            waited = time.monotonic() - self._since
            if waited > _PATIENCE and not self._terminated:
                self._terminated = True
                self.send(signal.SIGTERM)
            if waited > _PATIENCE + _GRACE and not self._killed:
                self._killed = True
                self.send(signal.SIGKILL)
        return None in codes

    def send(self, number: int) -> None:
        """Send a signal to every process that still runs."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    def failed(self) -> str:
        """Note the failure for the sweep's table, and return it in words."""
        assert self.died is not None
        code = self.codes[self.died]
        assert code is not None
        if self.died:  # What the table quotes stands in the file of the first.
            text = _stderr(self.unit, self.died).read_text(errors="replace")
            with confined.open_to_append(failure.stderr(self.unit)) as file:
                file.write(text.encode())
        message = failure.note_failure(self.unit, code)
        if len(self._children) == 1:
            return message
        return f"process {self.died} of {len(self._children)} {message}"

    def _start(
        self, spec: Spec, number: int, command: Sequence[str], prefix: str
    ) -> None:
        # Output to files, which outlive this process.
        errors = _stderr(self.unit, number)
        output = self.unit.path / "stdout.txt"
        with (
            confined.open_anew(errors) as stderr,
            open(os.devnull, "wb") if number else confined.open_anew(output) as stdout,
        ):
            child = subprocess.Popen(
                command,
                cwd=spec.directory,
                env={**os.environ, **spec.environment, **visible(spec, number)},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C comes from here, once.
            )
        # Shown: stdout of the first process, stderr of all.
        self._children.append(child)
        if not number:
            self._tails.append(Tail(output, sys.stdout, prefix))
        error_prefix = f"{prefix}process {number}: " if number else prefix
        self._tails.append(Tail(errors, sys.stderr, error_prefix))


def commands(spec: Spec, unit: Unit) -> list[list[str]]:
    """Return the leashed command of each process of a unit that starts now."""
    command = [*spec.program, *unit.arguments]
    if spec.processes == 1:
        return [leash.leashed(command)]
    port = _free_port()
    return [
        leash.leashed([*command, *spec.joined(f"127.0.0.1:{port}", number)])
        for number in range(spec.processes)
    ]


def visible(spec: Spec, number: int) -> dict[str, str]:
    """Return what gives each process its own GPUs, if `devices` is set: variables."""
    if not spec.devices:
        return {}
    own = range(number * spec.devices, (number + 1) * spec.devices)
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, own))}


def _stderr(unit: Unit, number: int) -> Path:
    first = failure.stderr(unit)
    return first.with_stem(f"{first.stem}-{number}") if number else first


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
