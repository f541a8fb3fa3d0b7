"""Order of the operations of a CPU's programs: that of the least memory.

By default XLA starts on a CPU whatever it can as early as it can: it allocates buffers
of a backward pass before the forward pass, and makes again early what `remat` would
make late. One row of 8,192 tokens of `configs/dense.py` takes 0.65 of the memory in the
other order. XLA takes this flag from the environment alone: as an option of one program
it is accepted and does nothing (jaxlib 0.10.2).
"""

import importlib.metadata
from collections.abc import MutableMapping

_FLAG = "xla_cpu_enable_concurrency_optimized_scheduler"
_OURS = f"--{_FLAG}=false"
_KNOWN = ("0.10.",)
"""Versions of jaxlib that know it; an unknown flag ends the process."""


def prefer_memory(environment: MutableMapping[str, str]) -> None:
    """Set the flag, before a backend starts, unless the user has."""
    flags = environment.get("XLA_FLAGS", "")
    if _FLAG not in flags and importlib.metadata.version("jaxlib").startswith(_KNOWN):
        environment["XLA_FLAGS"] = f"{flags} {_OURS}".strip()


def without_ours(flags: str | None) -> str | None:
    """Return the `XLA_FLAGS` that the user has set; None for none."""
    return (flags or "").replace(_OURS, "").strip() or None
