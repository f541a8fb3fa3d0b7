"""Runs a command that is sent SIGTERM when the process that started it dies.

    python leash.py PARENT COMMAND...

Linux alone has it (`prctl`), and keeps it across `exec`: this file becomes the command.
A launcher that `kill -9` ends can forward nothing; its runs save a checkpoint and end
all the same. SIGTERM rather than SIGKILL, so that nothing of a run is lost.

Imports nothing of ours: it is started by its path, without site-packages.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Never returns: it is the command from here on."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if not _lives(int(parent)):
            sys.exit("the launcher ended before its run began")
    os.execv(command[0], command)


def leashed(command: list[str]) -> list[str]:
    """`command` as a child of this process that does not outlive it."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
