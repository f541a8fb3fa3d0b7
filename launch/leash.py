"""Run a command that is sent SIGTERM when its launcher dies.

    python leash.py LAUNCHER COMMAND...

Linux alone has it (`prctl`), and keeps it across `exec`: this file becomes the command.
Where a shell stands between (XManager's), a second process watches the launcher.
A launcher that `kill -9` ends can forward nothing; its runs save a checkpoint and end
all the same. SIGTERM rather than SIGKILL, so that nothing of a run is lost.

Imports nothing of ours: it is started by its path, without site-packages.
"""

import ctypes
import os
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the command; never returns."""
    launcher, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(launcher):
            _watch(int(launcher))
    os.execv(command[0], command)


def leashed(command: list[str]) -> list[str]:
    """`command` as a child of this process that does not outlive it."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def _watch(launcher: int) -> None:
    """Leave a process behind that ends with this one, or ends it."""
    run = os.getpid()
    try:
        ends = {name: os.pidfd_open(name) for name in (launcher, run)}
    except ProcessLookupError:
        sys.exit("the launcher ended before its run began")
    if os.fork():
        return
    ended, _, _ = select.select(ends.values(), (), ())
    if ends[run] not in ended:
        os.kill(run, signal.SIGTERM)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
