"""JAX's abort of a process whose peer is dead, turned into words and an exit code.

JAX's watch answers the loss of a process by `abort()` in all others, from a thread of
C++ and after a page on stderr. The callback that jaxlib takes in its place cannot be
called from there: its argument has no type in Python (`std::bad_cast`, jaxlib 0.10.2).
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)


@contextlib.contextmanager
def turned_into(leave: Callable[[], object]) -> Iterator[None]:
    """Have an abort within call `leave`, which ends the process; drop JAX's pages.

    For the end of a run alone, where all is saved: another abort would be taken for one
    of JAX's. Python's own stderr is as before; what C++ writes there is not shown.
    """
    # A handler of C: one of Python's waits for the main thread, and abort does not.
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes = (ctypes.c_int, _HANDLER)
    set_handler.restype = ctypes.c_void_p
    handler = _HANDLER(lambda number: leave())
    with _pages_dropped():
        set_handler(signal.SIGABRT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGABRT, signal.SIG_DFL)


@contextlib.contextmanager
def _pages_dropped() -> Iterator[None]:
    if sys.stderr is None:  # a process that was started without one
        yield
        return
    sys.stderr.flush()
    with (
        os.fdopen(os.dup(2), "w", buffering=1) as stderr,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(stderr),
    ):
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr.fileno(), 2)
