"""Signatures of this user, by which a run knows its own files from a stranger's.

The key is a file of 32 random bytes that only its owner reads, made at first use:
`$XDG_STATE_HOME/retort/key`, else `~/.local/state/retort/key`.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

_BYTES = 32


def sign(content: bytes) -> str | None:
    """Return the HMAC-SHA256 of `content`; None where no key can be had."""
    key = _key()
    return None if key is None else hmac.new(key, content, hashlib.sha256).hexdigest()


def verifies(content: bytes, signature: str) -> bool:
    """Return True if this user signed `content`."""
    expected = sign(content)
    # Bytes: a signature from a file may hold any text.
    return expected is not None and hmac.compare_digest(
        expected.encode(), signature.encode(errors="replace")
    )


def _key() -> bytes | None:
    path = _home() / "key"
    try:
        if not path.exists():
            _create(path)
        key = path.read_bytes()
    except OSError:  # a machine without a home
        return None
    return key if len(key) == _BYTES else None


def _home() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "retort"


def _create(path: Path) -> None:
    """Write a key, whole, unless another process was faster."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
