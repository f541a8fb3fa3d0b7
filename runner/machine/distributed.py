r"""Several processes as one program: JAX's own `jax.distributed`, and its ends.

    srun runner ...                               Slurm, as `sbatch` starts it
    mpirun runner ...                             Open MPI 4
    runner ... --gin.distributed.detect=True      Kubernetes, TPU pods: JAX looks
    runner ... --gin.distributed.coordinator=HOST:PORT \
      --gin.distributed.processes=2 --gin.distributed.process=0

Every process runs the same command. They make one mesh of all their devices, read the
rows that their own devices hold, and save their own part of a checkpoint; the first
alone writes the rest of the work directory.
"""

import contextlib
import os
import re
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from runner import runtime
from runner.errors import PeerLost, UserError
from runner.machine import departures, early_exit, mesh
from runner.machine.stop_signals import Stop

_LAUNCHERS: Mapping[str, tuple[str, str, str]] = {
    "slurm": ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID"),
    "ompi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
}
_FIRST_NODE = re.compile(r"([^\[,]+)(?:\[(\d+))?")  # of `node001`, `node[001-8],other`
_WHERE = "OMPI_MCA_orte_hnp_uri"
_LOST = ("gloo", "nccl", "coordination", "heartbeat", "barrier", "socket")


def start(config: runtime.Runtime) -> int:
    """Join the processes that train together; return the number of this one.

    Raises:
      UserError: The settings contradict each other, or the others do not come.
    """
    settings = config.distributed
    keywords = arguments(settings, os.environ)
    if keywords is None:
        return 0
    _resolve(_first_host(keywords, os.environ))
    try:
        jax.distributed.initialize(
            **keywords,
            initialization_timeout=settings.start_seconds,
            heartbeat_timeout_seconds=settings.heartbeat_seconds,
            shutdown_timeout_seconds=settings.start_seconds,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"distributed: {_first_line(error)}") from error
    sys.excepthook = _show_and_leave
    early_exit.register(leave)
    departures.watch()
    mesh.split_cpu(config.mesh)
    return jax.process_index()


def stop() -> Stop:
    """Return the stop flag of a loop: set by a signal to this process or to another."""
    return SharedStop() if jax.distributed.is_initialized() else Stop()


class SharedStop(Stop):
    """A signal to one of several processes stops all of them after the same step.

    JAX's preemption service has SIGTERM: it tells the others, and all agree on a step
    that none has passed. Ctrl-C is passed on to it. A second SIGTERM does nothing more.
    """

    signals = (signal.SIGINT,)

    def after(self, step: int) -> bool:
        """Return whether all processes stop after `step`."""
        return multihost_utils.reached_preemption_sync_point(step)

    def at_once(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that waits: all processes end after the same step."""
        return contextlib.nullcontext()

    def _wake(self) -> None:
        pass

    def _ask(self, number: int, frame: FrameType | None) -> None:
        first = not self.requested
        super()._ask(number, frame)
        if first:
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Wrap the part of a program that cannot go on without the other processes.

    Raises:
      PeerLost: One of them ended, or cannot be reached. (Where JAX's own watch sees
        that first, it aborts this process, with a page that says the same.)
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # of NumPy's conversions
        reason = _first_line(error)
        of_peers = any(word in reason.lower() for word in _LOST)
        if not (of_peers and jax.distributed.is_initialized()):
            raise
        raise PeerLost(
            f"process {jax.process_index()}: another process of this run has ended or "
            f"is out of reach ({reason}); {departures.AGAIN}"
        ) from error


def whole(x: Any) -> np.ndarray:
    """Gather an array with parts in every process; all of them have to call this."""
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def leave(code: int) -> None:
    """End this process now if others train with it: they must not wait for it.

    An ordinary end waits for the others, who wait for this one in mid-step. They are
    told, and end too.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        departures.announce(code)
        os._exit(code)


def _show_and_leave(kind: Any, error: BaseException, trace: Any) -> NoReturn:
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    departures.announce(1)
    os._exit(1)


def _first_host(keywords: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the host of the first process, as far as it is known by name."""
    if address := keywords.get("coordinator_address"):
        return address.rpartition(":")[0]
    if keywords.get("cluster_detection_method") == "slurm":
        node = _FIRST_NODE.match(environment["SLURM_STEP_NODELIST"])
        return "".join(part or "" for part in node.groups()) if node else ""
    return ""


def _resolve(host: str) -> None:
    """Look a host up, which JAX would try for minutes and then not name.

    Raises:
      UserError: It has no address.
    """
    try:
        if host:
            socket.getaddrinfo(host.strip("[]"), None)
    except OSError as error:
        raise UserError(
            f"distributed: {host}, the host of the first process, has no address "
            f"({error.strerror}); name it: --gin.distributed.coordinator=HOST:PORT"
        ) from None


def arguments(
    settings: runtime.Distributed, environment: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the arguments of `jax.distributed.initialize`; None for a lone process.

    Flags win over the launcher's variables, and these over JAX's own search.

    Args:
      settings: The flags.
      environment: The variables of this process.

    Raises:
      UserError: The flags and the launcher leave out something that JAX needs.
    """
    # Flags, with the numbers of the launcher where they have none.
    launcher = _launcher(environment)
    if settings.coordinator:
        processes, process = settings.processes, settings.process
        if launcher is not None and processes == 1:
            processes, process = (int(environment[x]) for x in _LAUNCHERS[launcher][1:])
        if processes == 1:
            raise UserError(
                f"distributed.coordinator is {settings.coordinator}, but "
                "distributed.processes is 1; say how many there are, and which this is"
            )
        return {
            "coordinator_address": settings.coordinator,
            "num_processes": processes,
            "process_id": process,
            "cluster_detection_method": "deactivate",
        }
    if settings.processes > 1:
        raise UserError(
            f"distributed.processes is {settings.processes}; name the first one's host "
            "and a free port: --gin.distributed.coordinator=HOST:PORT"
        )

    # The launcher alone, as far as JAX can read it.
    if launcher == "ompi" and _WHERE not in environment:
        raise UserError(
            "Open MPI from 5 on does not say where its first process is; add "
            "--gin.distributed.coordinator=HOST:PORT"
        )
    if launcher is not None:
        return {"cluster_detection_method": launcher}
    return {} if settings.detect else None


def _launcher(environment: Mapping[str, str]) -> str | None:
    """Return the launcher that started more than one process, if there is one."""
    for name, (present, count, _) in _LAUNCHERS.items():
        if present in environment and int(environment.get(count, "1")) > 1:
            return name
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
