"""The software of a run: versions, flags and devices, which decide its last bits."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.machine import schedule

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

FLAGS = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "NVIDIA_TF32_OVERRIDE",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_DISABLE_JIT",
    "JAX_ENABLE_X64",
    "JAX_THREEFRY_PARTITIONABLE",
)
"""Variables of the environment that change what is compiled."""

_COMPARED = ("python", "libraries", "commit", "flags", "devices")


def software() -> dict[str, Any]:
    """Return Python, platform, libraries, flags, and our own commit in a git clone."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "flags": {name: os.environ.get(name) for name in FLAGS}
        | {"XLA_FLAGS": schedule.without_ours(os.environ.get("XLA_FLAGS"))},
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
        "processor": _processor() if jax.default_backend() == "cpu" else None,
    }


def differences(began: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each version, flag and device that is another one now.

    Args:
      began: As in `versions.json`; what it does not tell is not compared.
      now: The same of this start.
    """
    before, after = dict(_leaves(began)), dict(_leaves(now))
    return [
        f"{name}: began with {_shown(before[name])}, goes on with {_shown(value)}"
        for name, value in after.items()
        if name in before and before[name] != value
    ]


def _leaves(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part in _COMPARED:
        value = content.get(part)
        if isinstance(value, Mapping):
            yield from ((f"{part}.{name}", leaf) for name, leaf in value.items())
        elif part in content:
            yield part, value


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value).strip('"')


def _processor() -> str | None:
    """Return the name of the CPU, for whose instructions XLA compiles."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return next(names, "").strip() or None


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
