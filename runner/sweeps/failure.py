"""The failure of a unit, kept in its directory until the unit runs again."""

import json
import signal
from pathlib import Path

from runner import atomic_files
from runner.sweeps.frozen import Unit

_NAME = "failure.json"


def note_failure(unit: Unit, code: int) -> str:
    """Save the exit code of a unit and its last message; return both in words.

    `failed, exit code 1: runner: step 12: learning/ce is not finite`
    """
    message = f"failed, {_code(code)}"
    if words := _last_words(stderr(unit)):
        message += f": {words}"
    atomic_files.write_atomic(
        unit.path / _NAME, json.dumps({"code": code, "said": message})
    )
    return message


def message(unit: Unit) -> str:
    """Return what `note_failure` returned; empty without a failure."""
    path = unit.path / _NAME
    if unit.finished or not path.exists():
        return ""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["said"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "failed"


def forget_failure(unit: Unit) -> None:
    """Delete the note of a failure, before the unit runs again."""
    (unit.path / _NAME).unlink(missing_ok=True)


def stderr(unit: Unit) -> Path:
    """Return the file for a unit's stderr; each run begins it anew."""
    return unit.path / "stderr.txt"


def _code(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _last_words(path: Path) -> str:
    """Return the last message of `runner`, else the last line of the file."""
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    ours = [line for line in lines if line.startswith("runner: ")]
    return (ours or lines or [""])[-1][:300]
