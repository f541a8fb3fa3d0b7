"""The units of a sweep one after another on this machine, each in its own process."""

import contextlib
import subprocess
import sys
import time

from runner.files import confined, early_line, sweep_unit
from runner.files.sweep_unit import Place
from runner.machine.stop_signals import Stop
from runner.sweeps import failure, trust
from runner.sweeps.frozen import Frozen, Unit
from runner.workdir import lock

PROGRAM = (sys.executable, "-m", "runner.main")
_INTERRUPTED = 130


def run(frozen: Frozen) -> None:
    """Run every unfinished unit, then write the table and the picture.

    A failed unit is named, and the others still run. A signal is passed to the running
    unit, which saves a checkpoint; then the sweep ends too.

    Raises:
      UserError: another process runs this sweep.
      SystemExit: with 1 where units failed; with `Stop.exit_code` after a signal.
    """
    failed = []
    with lock.hold(frozen.path / "lock"), Stop() as stop:
        for number, unit in enumerate(frozen.units, 1):
            head = f"unit {number}/{len(frozen.units)} {unit.label}".rstrip()
            # A unit may outlive the sweep that started it.
            if unit.in_use:
                _say(f"{head}: runs in another process; waiting for it")
                while unit.in_use and not stop.requested:
                    time.sleep(0.2)
            if unit.finished:
                _say(f"{head}: finished")
                continue
            if not stop.requested:
                _say(head)
                code = _child(unit, stop, Place(number, len(frozen.units), unit.label))
            else:
                code = 0
            if unit.finished:
                continue
            # Stopped: the unit has a checkpoint, so the same command continues.
            if stop.requested or code in (0, _INTERRUPTED):
                why = "stopped in" if stop.requested else "ended without a result:"
                _say(
                    f"{why} unit {number} of {len(frozen.units)}; "
                    f"go on with: runner {trust.flags(frozen)}"
                )
                sys.exit(stop.exit_code or code)
            # Failed: noted for the table; the next unit runs.
            failed.append(unit)
            _say(f"{head}: {failure.note_failure(unit, code)}")
    early_line.show("drawing the results")
    from runner.sweeps import summary  # Matplotlib: only for those who draw.

    summary.summarize(frozen)
    if failed:
        names = ", ".join(unit.name for unit in failed)
        print(
            f"runner: {len(failed)} of {len(frozen.units)} units failed: {names}",
            file=sys.stderr,
        )
        sys.exit(1)


def _child(unit: Unit, stop: Stop, place: Place) -> int:
    """Run a unit in a process of its own and return the exit code.

    It is told its `place` in the sweep, for a bar on the terminal that it draws on.

    Its session is its own too, so that Ctrl-C in a terminal reaches it once, from here:
    a second one would end it without a checkpoint. Its stderr goes to a file, since the
    unit may outlive this process.
    """
    failure.forget_failure(unit)
    with confined.open_anew(failure.stderr(unit)) as errors:
        child = subprocess.Popen(
            [*PROGRAM, *unit.arguments, "--gin.loop.quiet=True"],
            stdin=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            env=sweep_unit.environment(place),
        )
    # Polled, so that a signal that arrives meanwhile is passed on, once.
    signal_sent = False
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(timeout=0.1)
            if stop.signal is not None and not signal_sent:
                child.send_signal(stop.signal)
                signal_sent = True
    except BaseException:
        # A second Ctrl-C: at once.
        child.terminate()
        child.wait()
        raise


def _say(line: str) -> None:
    early_line.clear()
    print(line, flush=True)
