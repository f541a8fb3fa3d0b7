"""The C library's heap of a run on CPUs: what one step frees, the next one takes.

XLA allocates the temporaries of every step and frees them after it. By default glibc
maps each large one afresh and unmaps it again, and the system clears every page of it
at the first touch: 28,600 page faults a step of `configs/dense.py`.
"""

import ctypes
import os
from collections.abc import Mapping

# Numbers of `mallopt(3)`, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
# One arena, since one per thread is bounded and a large array does not fit; no mapping
# of its own for any allocation; nothing given back at the end of the heap.
_KEEP = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_DEFAULTS = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 * 2**10}


_keeps = False


def keep_pages() -> bool:
    """Keep freed memory in the process; to be called before any thread is started.

    Returns:
      Whether it is kept: under glibc, where the environment sets nothing of its heap.
    """
    global _keeps
    _keeps = _is_ours(os.environ) and _set(_KEEP)
    return _keeps


def give_back() -> None:
    """Undo `keep_pages`, but for the single arena."""
    global _keeps
    if _keeps:
        _keeps = not _set(_DEFAULTS)


def _is_ours(environment: Mapping[str, str]) -> bool:
    """Return false under another C library, or where the user has set its heap."""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):  # Windows; macOS and musl
        libc = ""
    set_by_user = "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in environment
    )
    return libc.startswith("glibc") and not set_by_user


def _set(settings: Mapping[int, int]) -> bool:
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(name, value) == 1 for name, value in settings.items()])
