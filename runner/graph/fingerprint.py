"""One short name for all that a graph says."""

import hashlib

import fiddle as fdl

from runner.graph import describe


def digest(cfg: fdl.Buildable) -> str:
    """16 hex digits, equal exactly when the described lines are (SHA-256)."""
    return hashlib.sha256(describe.text(cfg).encode()).hexdigest()[:16]
