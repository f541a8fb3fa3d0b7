"""Ends of one of several processes, told to the others.

Without a word they would sit in a collective, or in JAX's shutdown barrier, until a
heartbeat is missed; JAX then aborts them with a page about it. One that ends early by
itself leaves a notice. One that is killed cannot, but it breaks the collective that the
others are in: so all meet in one at the end, before JAX's barrier.
"""

import atexit
import os
import sys
import threading
import time
from typing import Any, NoReturn

import jax
from jax._src import distributed  # its client, which has no public name
from jax.experimental import multihost_utils

from runner.errors import PeerLost
from runner.machine import aborts

AGAIN = "start all again: the run goes on from its last checkpoint"

_GRACE = 2.0  # seconds in which a process may find the same error by itself, and say so
_POLL = 0.5
_DIRECTORY = "retort/left/"
_LEAVING = threading.Lock()
_KILLED = "another process of this run was killed, or is out of reach"


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
        with aborts.turned_into(lambda: _say_and_leave(_KILLED)):
            _meet(client)
            jax.distributed.shutdown()
            over.set()
            thread.join()

    atexit.register(end)


def _meet(client: Any) -> None:
    """Wait at the end for all others, or end as soon as one of them is dead.

    JAX's own barrier learns of that from heartbeats.
    """
    try:
        multihost_utils.sync_global_devices("the end of the run")
    except Exception:  # of any type, by where the collective breaks
        # The first process keeps the notices of those that left by themselves.
        told = _told(client) if jax.process_index() == 0 else ""
        _say_and_leave(told or _KILLED)


def _watch(client: Any, over: threading.Event) -> None:
    while not over.wait(_POLL):
        try:
            told = _told(client)
        except Exception:  # the service is gone, as at the end of a run
            return
        if told:
            time.sleep(_GRACE)
            announce(PeerLost.code)
            _say_and_leave(told)


def _say_and_leave(reason: str) -> NoReturn:
    _LEAVING.acquire()  # of two threads that know, one says it
    line = f"runner: process {jax.process_index()}: {reason}; {AGAIN}"
    print(line, file=sys.stderr, flush=True)
    os._exit(PeerLost.code)


def _told(client: Any) -> str:
    """Return the notice of another process in words; empty where there is none."""
    own = str(jax.process_index())
    others = {k: code for k, code in _left(client).items() if k != own}
    if not others:
        return ""
    process, code = min(others.items())
    return f"process {process} of this run has ended with exit code {code}"


def _left(client: Any) -> dict[str, str]:
    """Return exit codes by the number of the process that announced its end."""
    entries = client.key_value_dir_get(_DIRECTORY)
    return {key.rpartition("/")[2]: code for key, code in entries}
