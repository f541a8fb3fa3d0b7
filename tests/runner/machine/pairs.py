"""Whole runs of two processes on this machine, over gloo."""

import socket
import time

from tests.runner.runs import Runner

RUNNER = ("-m", "runner.main")


class Pair(Runner):
    """Two processes with one device each, on the config of `Runner`."""

    def start_all(self, workdir, *flags, programs=(RUNNER, RUNNER)):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        return [
            self.start(
                workdir,
                f"--gin.distributed.coordinator=localhost:{port}",
                "--gin.distributed.processes=2",
                f"--gin.distributed.process={process}",
                "--gin.loop.quiet=True",
                *flags,
                program=program,
            )
            for process, program in enumerate(programs)
        ]

    def run_all(self, workdir, *flags, code=0):
        """What each process prints."""
        return self.ended(self.start_all(workdir, *flags), code=code)

    def ended(self, processes, *, code=0):
        outputs = [process.communicate(self.patience)[0] for process in processes]
        assert [process.returncode for process in processes] == [code, code], outputs
        return outputs

    def until(self, workdir, step, processes):
        while self.last_step(workdir) < step:
            assert all(process.poll() is None for process in processes), [
                process.communicate()[0] for process in processes
            ]
            time.sleep(0.01)
