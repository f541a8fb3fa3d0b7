"""The software of a run: the versions and devices that decide its last bits."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

LIBRARIES = (
    "retort",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "fiddle",
    "orbax-checkpoint",
    "grain",
    "clu",
    "tokenizers",
    "numpy",
)


def software() -> dict[str, Any]:
    """Return Python, platform, libraries, and our own commit in a git clone."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "commit": _commit(Path(__file__).parents[2]),
    }


def devices() -> dict[str, Any]:
    """Return kind and number of the accelerators. Starts the backends."""
    import jax

    return {
        "backend": jax.default_backend(),
        "kinds": sorted({device.device_kind for device in jax.devices()}),
        "count": jax.device_count(),
        "processes": jax.process_count(),
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(root: Path) -> str | None:
    """Return `HEAD` of `root`, with `+` where tracked files differ from it."""
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changed = commit and _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+" if changed else commit


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
