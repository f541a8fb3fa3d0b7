"""A child process, whose heap is its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.machine import heap

ROOT = Path(__file__).resolve().parents[3]
_GLIBC = sys.platform == "linux" and heap._is_ours({})

# The second thread has an arena of its own by default, as XLA's threads have.
_FAULTS_OF_TEN_ROUNDS = """
import ctypes, resource, sys, threading
from runner.machine import heap
{before}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = (ctypes.c_void_p,)
def touch():
    for size in (2**25, 2**20, 2**23):
        pointer = libc.malloc(ctypes.c_size_t(size))
        ctypes.memset(pointer, 1, size)
        libc.free(pointer)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def rounds():
    touch()
    start = faults()
    for _ in range(10):
        touch()
    print(faults() - start)
thread = threading.Thread(target=rounds)
thread.start()
thread.join()
"""


def faults(before, **environment):
    """Page faults of ten rounds of 41 MiB, after the statement `before`."""
    clean = {n: v for n, v in os.environ.items() if not n.startswith("MALLOC_")}
    return int(
        subprocess.run(
            [sys.executable, "-c", _FAULTS_OF_TEN_ROUNDS.format(before=before)],
            env={**clean, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    )


@pytest.mark.skipif(not _GLIBC, reason="another C library has another heap")
def test_freed_pages_are_taken_again():
    assert faults("") > 10_000
    assert faults("assert heap.keep_pages()") < 100
    assert faults("heap.keep_pages(); heap.give_back()") > 10_000


@pytest.mark.skipif(not _GLIBC, reason="another C library has another heap")
def test_what_the_environment_says_of_the_heap_stands():
    keep = "assert not heap.keep_pages()"
    assert faults(keep, MALLOC_TRIM_THRESHOLD_="131072") > 10_000
    assert faults(keep, GLIBC_TUNABLES="glibc.malloc.arena_max=8") > 10_000


@pytest.mark.parametrize("error", [AttributeError, OSError, ValueError])
def test_another_c_library_is_left_alone(monkeypatch, error):
    def confstr(_):
        raise error

    monkeypatch.setattr(os, "confstr", confstr)
    assert not heap.keep_pages()
    heap.give_back()
