"""Early ends of one of several processes, told to the others.

Without a word they would sit in a collective, or in JAX's shutdown barrier, until a
heartbeat is missed; JAX then aborts them with a page about it.
"""

import atexit
import os
import sys
import threading
import time
from typing import Any

import jax
from jax._src import distributed  # its client, which has no public name

_GRACE = 2.0  # seconds in which a process may find the same error by itself, and say so
_POLL = 0.5
_DIRECTORY = "retort/left/"


def announce(code: int) -> None:
    """Tell the other processes that this one ends early, with an exit code.

    The first process, which keeps the notices, waits until the others have read them.
    """
    try:
        client: Any = distributed.global_state.client
        client.key_value_set(f"{_DIRECTORY}{jax.process_index()}", str(code))
        until = time.monotonic() + 2 * _GRACE
        if jax.process_index() == 0:
            while len(_left(client)) < jax.process_count() and time.monotonic() < until:
                time.sleep(_POLL / 5)
    except Exception:  # the service is gone: so are the others
        return


def watch() -> None:
    """Have a thread end this process when another one has announced its end."""
    client, over = distributed.global_state.client, threading.Event()
    thread = threading.Thread(
        target=_watch, args=(client, over), name="departures", daemon=True
    )
    thread.start()

    def end() -> None:
        # JAX does it at the exit too; the thread watches until it is done, and must not
        # be in a call of the service when the interpreter ends: that aborts.
        jax.distributed.shutdown()
        over.set()
        thread.join()

    atexit.register(end)


def _watch(client: Any, over: threading.Event) -> None:
    own = str(jax.process_index())
    while True:
        if over.wait(_POLL):
            return
        try:
            others = {k: code for k, code in _left(client).items() if k != own}
        except Exception:  # the service is gone, as at the end of a run
            return
        if others:
            break
    time.sleep(_GRACE)
    process, code = min(others.items())
    line = (
        f"runner: process {own}: process {process} of this run has ended with exit "
        f"code {code}; start all again: the run goes on from its last checkpoint"
    )
    print(line, file=sys.stderr, flush=True)
    announce(1)
    os._exit(1)


def _left(client: Any) -> dict[str, str]:
    """Return exit codes by the number of the process that announced its end."""
    entries = client.key_value_dir_get(_DIRECTORY)
    return {key.rpartition("/")[2]: code for key, code in entries}
