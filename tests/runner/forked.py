"""Runs that begin after their imports: forks of one process, which has no threads.

A third of a short run's time is its imports. Each run is a process of its own all the
same, which can be killed, and has its own backend, files and exit code.
"""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.runner.runs import ROOT, Runner

_IMPORTED = (
    *("grain", "matplotlib.pyplot", "orbax.checkpoint", "tokenizers"),
    *("runner.experiment", "runner.main", "runner.report.page", "runner.sweeps"),
    *("runner.train.loop", "runner.workdir.opening", "tests.runner.resume_config"),
)
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(_IMPORTED))


class ForkedRunner(Runner):
    """`Runner` whose runs of the command `runner` are forks."""

    def start(self, workdir, *flags, program=None):
        output = Path(tempfile.mkstemp(dir=self.directory, suffix=".txt")[1])
        command = [*self.flags, f"--workdir={self.directory / workdir}", *flags]
        return _Fork(["runner", *command], output)


class _Fork:
    """A process, as far as tests ask a `subprocess.Popen`."""

    def __init__(self, command, output):
        self._output = output
        self._process = _CONTEXT.Process(target=_run, args=(command, output))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout=None):
        """What it has printed by its end, for which this waits."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self._output.read_text(), None


def _run(command, output):
    file = os.open(output, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(ROOT)
    sys.argv = command
    from runner import main

    try:
        main.run()
    finally:
        atexit._run_exitfuncs()  # a fork ends without them
        sys.stdout.flush()
