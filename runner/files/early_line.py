"""A word on the terminal while a command imports, before it has anything to show."""

import os
import sys

_CLEAR = "\r\x1b[2K"
_shown = False


def show(text: str) -> None:
    """Say what the wait is for; nothing where standard output is no terminal."""
    global _shown
    if _is_terminal():
        sys.stdout.write(f"{_CLEAR}{text}…" if _encodes("…") else f"{_CLEAR}{text}...")
        sys.stdout.flush()
        _shown = True


def clear() -> None:
    """Take it away, before anything else is printed."""
    global _shown
    if _shown:
        sys.stdout.write(_CLEAR)
        sys.stdout.flush()
        _shown = False


def _is_terminal() -> bool:
    """Return whether a person looks on; `mpirun` gives its ranks one without a size."""
    if os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return False
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns > 0
    except OSError:
        return False


def _encodes(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
