"""An abort in a thread of C++, as JAX's watch of other processes makes it."""

import subprocess
import sys

ABORTS = """
import ctypes, os, sys, time
from runner.machine import aborts

def leave():
    print("in words", file=sys.stderr, flush=True)
    os._exit(6)

with aborts.turned_into(leave):
    print("ours", file=sys.stderr)
    os.write(2, b"a page")
    if sys.argv[1] == "aborts":
        ctypes.CDLL(None).abort()
os.write(2, b"after")
if sys.argv[1] == "aborts later":
    ctypes.CDLL(None).abort()
"""


def ended(how):
    done = subprocess.run(
        [sys.executable, "-c", ABORTS, how], capture_output=True, text=True
    )
    return done.returncode, done.stderr


def test_an_abort_within_is_an_exit_code_and_words_and_no_page():
    assert ended("aborts") == (6, "ours\nin words\n")


def test_outside_of_it_all_is_as_before():
    assert ended("does not") == (0, "ours\nafter")
    assert ended("aborts later") == (-6, "ours\nafter")


def test_a_process_without_stderr_ends_too():
    program = "from runner.machine import aborts\nwith aborts.turned_into(print): pass"
    shell = 'exec "$0" -c "$1" 2>&-'
    assert (
        subprocess.run(["bash", "-c", shell, sys.executable, program]).returncode == 0
    )
