"""A watchdog for hangs: says where a run stands when no step ends for too long.

A read that never returns, a collective whose peer has stopped, a file system that is
stuck: nothing fails there, so nothing is printed. A thread of its own writes the place
and the stacks of all threads, to stderr and the work directory.
"""

import datetime
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Self

from runner import runtime
from runner.files import confined

HUNG = 4
"""Exit code of a process that its watchdog ended."""

_PATIENCE = 5.0  # seconds for the work directory, which may be what is stuck

# Place, files and functions (all, if none is named) of the innermost frame that counts.
_PLACES: Sequence[tuple[str, Sequence[str], Sequence[str]]] = (
    ("compile", ("jax/_src/compiler.py",), ()),
    ("data read", ("runner/data/pipeline.py",), ()),
    ("checkpoint", ("runner/checkpoint/checkpoints.py",), ()),
    ("collective", ("jax/experimental/multihost_utils.py",), ()),
    ("evaluation", ("runner/evaluation/evaluator.py",), ()),
    ("step", ("runner/step/metrics.py",), ("fetch",)),
    ("step", ("runner/step/compiled_step.py",), ("__call__",)),
)


class Watchdog:
    """While open, reports a process in which no step has ended for `seconds`.

        with Watchdog(config.watchdog, workdir) as watchdog:
            for step in steps:
                ...
                watchdog.beat()

    A hang is reported once. The next step that ends says how long it took after all.
    """

    def __init__(
        self, settings: runtime.Watchdog, directory: Path, *, processes: int = 1
    ):
        """Start nothing yet.

        Args:
          settings: Seconds without a step (0 for no watchdog), and whether to end.
          directory: Where `hang.txt` goes.
          processes: Number that train together: a step then waits for the others.
        """
        self._settings, self._directory = settings, directory
        self._processes = processes
        self._last, self._reported = time.monotonic(), False
        self._main = threading.main_thread().ident
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="watchdog", daemon=True
        )

    def beat(self) -> None:
        """Note that a step has ended."""
        if self._reported:
            seconds = time.monotonic() - self._last
            _print(f"watchdog: a step has ended after {seconds:.0f} s; the run goes on")
            self._reported = False
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        if self._settings.seconds:
            self._last = time.monotonic()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def _watch(self) -> None:
        limit = self._settings.seconds
        while not self._closed.wait(min(1.0, limit / 4)):
            if not self._reported and time.monotonic() - self._last >= limit:
                self._reported = True
                self._report()
                if self._settings.end:
                    sys.stderr.flush()
                    os._exit(HUNG)

    def _report(self) -> None:
        frames = sys._current_frames()
        main = frames.get(self._main) if self._main is not None else None
        place = _place(main, self._processes)
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        ends = f"; ends with {HUNG}" if self._settings.end else ""
        title = (
            f"watchdog: no step has ended for {self._settings.seconds} s, {now}, "
            f"place: {place}{ends}"
        )
        text = f"{title}\n{_stacks(frames)}"
        _print(text)
        # In a thread of its own, which a stuck file system may keep.
        writing = threading.Thread(target=self._write, args=(text,), daemon=True)
        writing.start()
        writing.join(_PATIENCE)

    def _write(self, text: str) -> None:
        try:
            with confined.open_to_append(self._directory / "hang.txt") as file:
                file.write(f"{text}\n".encode())
        except OSError as error:
            _print(f"watchdog: hang.txt cannot be written ({error.strerror})")


def _place(frame: FrameType | None, processes: int) -> str:
    """Return what the thread of this frame is at, as far as its stack tells."""
    while frame is not None:
        file = frame.f_code.co_filename.replace(os.sep, "/")
        for place, files, functions in _PLACES:
            in_file = file.endswith(tuple(files))
            if in_file and (not functions or frame.f_code.co_name in functions):
                # A step of several processes is one collective after another.
                together = place == "step" and processes > 1
                return "collective" if together else place
        frame = frame.f_back
    return "elsewhere"


def _stacks(frames: dict[int, FrameType]) -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(number, number)}:\n"
        + "".join(traceback.format_stack(frame)).rstrip()
        for number, frame in frames.items()
    )


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
