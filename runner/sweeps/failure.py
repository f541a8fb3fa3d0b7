"""That a unit failed, and with what words; kept beside it until it is tried again."""

import json
import signal
from pathlib import Path

from runner import atomic_files
from runner.sweeps.frozen import Unit

_NAME = "failure.json"


def note_failure(unit: Unit, code: int) -> str:
    """Keeps the exit code of a unit, and what it said last; returns both in words.

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
    """What `note_failure` kept in words; empty without, and for a finished unit."""
    path = unit.path / _NAME
    if unit.finished or not path.exists():
        return ""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["said"])
    except (ValueError, KeyError, TypeError):
        return "failed"


def forget_failure(unit: Unit) -> None:
    """Before another try."""
    (unit.path / _NAME).unlink(missing_ok=True)


def stderr(unit: Unit) -> Path:
    """The file for what a unit writes there; each try begins it anew."""
    return unit.path / "stderr.txt"


def _code(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _last_words(path: Path) -> str:
    """What `runner` itself said; else the last line there is."""
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    ours = [line for line in lines if line.startswith("runner: ")]
    return (ours or lines or [""])[-1][:300]
