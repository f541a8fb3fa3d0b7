"""A whole Slurm on this machine: munge, a controller and two nodes, in one folder.

    with slurm_cluster.Cluster(folder) as cluster:
        cluster.run("sbatch", "job.sh")

Needs root and Debian's packages `slurmctld`, `slurmd`, `slurm-client` and `munge`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol")

# The first node is this machine's own name, which resolves; the second one's does not.
_CONF = """\
ClusterName=retort
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=8
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 Port={node} CPUs=8 State=UNKNOWN
NodeName=zz-{host} NodeAddr=127.0.0.1 Port={other} CPUs=8 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=15
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


def missing():
    """Why there can be no Slurm here; empty where there can."""
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurmctld slurmd munge"
    return "" if os.geteuid() == 0 else "a Slurm of one's own needs root"


class Cluster:
    """Two nodes of eight CPUs in the partitions `low` and `high`; `high` preempts."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.host = socket.gethostname().partition(".")[0]
        self.nodes = (self.host, f"zz-{self.host}")
        self._daemons = {}

    def __enter__(self):
        for name in ("munge", "state", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True, mode=0o700)
        ports = dict(
            zip(("controller", "node", "other"), map(str, _free_ports(3)), strict=True)
        )
        text = _CONF.format(folder=self.folder, host=self.host, **ports)
        (self.folder / "slurm.conf").write_text(text)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        munge = [
            f"--{name}={self.folder}/munge/{file}"
            for name, file in {
                "key-file": "key",
                "socket": "socket",
                "pid-file": "pid",
                "log-file": "log",
                "seed-file": "seed",
            }.items()
        ]
        self._start("munged", "munged", "--foreground", "--force", *munge)
        until(lambda: (self.folder / "munge" / "socket").exists())
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        self.await_nodes()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("scancel", "--user=root")
            until(lambda: not self.run("squeue", "-h"))
        for name in reversed([*self._daemons]):
            self._stop(name)

    def run(self, *command):
        """What a command of Slurm's prints."""
        done = subprocess.run(
            command, env=self.environment, text=True, capture_output=True, timeout=60
        )
        assert done.returncode == 0 or command[0] == "squeue", done.stderr
        return done.stdout.strip()

    def submit(self, script):
        """The array's number."""
        return self.run("sbatch", "--parsable", str(script))

    def state(self, task):
        """`RUNNING`, `PENDING` and so on; `GONE` when Slurm knows it no more."""
        lines = self.run("squeue", "-h", "-t", "all", "-o", "%T", "-j", task)
        return lines.split("\n")[-1] or "GONE"

    def start_now(self, task):
        """Leave out the two minutes that a requeued task waits for.

        A node takes a task that comes back within the second in which it was killed for
        the killed one ("credential revoked"), and Slurm gives it up: hence two seconds.
        """

        def rescheduled():
            with contextlib.suppress(AssertionError):  # its last run is completing
                self.run("scontrol", "update", f"jobid={task}", "StartTime=now+2")
                return True

        until(lambda: self.state(task) == "PENDING")
        until(rescheduled)
        until(lambda: self.state(task) != "PENDING")

    def start_node(self, node):
        self._start(node, "slurmd", "-D", "-N", node)

    def await_nodes(self):
        until(lambda: self.run("sinfo", "-h", "-o", "%T %D") == "idle 2")

    def lose_node(self, node):
        """Take a node's power: its daemon is gone, and all that the cluster runs."""
        mine = f"SLURM_CONF={self.environment['SLURM_CONF']}"
        daemon = self._daemons.pop(node)
        daemon.kill()
        daemon.wait()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (
                    (process / "environ").read_text(errors="replace").split("\0")
                )
                is_step = (process / "comm").read_text().startswith("slurmstepd")
                is_task = any(name.startswith("SLURM_JOB_ID=") for name in variables)
                if mine in variables and (is_step or is_task):
                    os.kill(int(process.name), signal.SIGKILL)
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def start_controller(self):
        self._start("slurmctld", "slurmctld", "-D")

    def stop_controller(self):
        self._stop("slurmctld")

    @property
    def environment(self):
        """Variables of Slurm's commands; `runner` can be imported beside them."""
        ours = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        return ours | {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def _start(self, name, *command):
        with (self.folder / f"{name}.log").open("a") as log:
            self._daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log
            )

    def _stop(self, name):
        daemon = self._daemons.pop(name)
        daemon.terminate()
        daemon.wait(timeout=60)


def until(condition, seconds=300):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited for {seconds} s"
        time.sleep(0.2)


def _free_ports(number):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
