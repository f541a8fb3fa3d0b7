"""A sweep of units whose `runner` is a stand-in: it ends as a test wants, at once."""

import json
import subprocess
import sys
import time
from pathlib import Path

from launch import local
from launch.spec import Spec
from runner import sweeps

ROOT = Path(__file__).parents[2]

# `how.json` says of a unit's number (and of a process, `00.1`) how it ends: with a
# code, at the end, when it is told to, never, or as one that is killed as it starts.
_RUNNER = """\
#!{python}
import fcntl, json, os, pathlib, signal, sys, time
flags = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[3:])
unit = pathlib.Path(flags["workdir"])
top = unit.parents[2]
process = flags.get("gin.distributed.process", os.environ.get("SLURM_PROCID", "0"))
me = unit.name[:2] + ("." + process if process != "0" else "")
def log(line):
    with open(top / "log.txt", "a") as file:
        file.write(me + " " + line + "\\n")
how = json.loads((top / "how.json").read_text()).get(me, "finish")
log("began " + " ".join(sys.argv[1:]))
asked = []
if how == "deaf":
    signal.signal(signal.SIGTERM, lambda *_: log("SIGTERM"))
elif how != "young":
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: asked.append(signal.Signals(n).name))
if process == "0":
    lock = open(unit / "lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
print(me, "says this", flush=True)
print(me, "warns", file=sys.stderr, flush=True)
(unit / ("begun" + me[2:])).touch()
until = time.time() + (120 if how == "wait" else 20)  # Slurm looks twice a minute
while how in ("wait", "deaf", "young") and not asked and time.time() < until:
    time.sleep(0.01)
if asked:
    time.sleep(0.3)
    log(asked[0] + " and saved")
    sys.exit(130 if asked[0] == "SIGINT" else 0)
if how == "finish":
    result = {{"evaluations": {{"held_out": {{"loss": 4.0 + int(unit.name[:2])}}}}}}
    if process == "0":
        (unit / "result.json").write_text(json.dumps(result))
    sys.exit(0)
if how == "deaf":
    log("went on to the end")
print("runner: the disk is full", file=sys.stderr)
sys.exit(how if isinstance(how, int) else 1)
"""

_LAUNCHER = """\
import sys
from launch import local
from tests.launch import stand_ins
sweep = stand_ins.Sweep(sys.argv[1])
sys.exit(sweep.run(parallel=int(sys.argv[2])))
"""


class Sweep:
    """Three units below a directory."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.path = self.directory / "sweep"
        if not self.path.exists():
            self._write()

    @property
    def units(self):
        return sweeps.load(self.path).units

    @property
    def log(self):
        path = self.directory / "log.txt"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def began(self):
        return [line.split()[0] for line in self.log if "began" in line]

    def how(self, ends):
        (self.directory / "how.json").write_text(json.dumps(ends))

    def spec(self, **changes):
        return Spec(
            name="sweep",
            path=self.path,
            directory=ROOT,
            python=str(self.directory / "python"),
            units=self.units,
            **changes,
        )

    def run(self, *, parallel=1, **changes):
        return local.run(self.spec(**changes), local.Options(parallel=parallel))

    def start(self, *, parallel=1):
        return subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, str(self.directory), str(parallel)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def wait_for(self, number, *, process=""):
        """Until a process of a unit is under way."""
        [unit] = self.path.glob(f"units/{number}-*")
        wait(lambda: (unit / f"begun{process}").exists())

    def _write(self):
        self.directory.mkdir(exist_ok=True)
        runner = self.directory / "python"
        runner.write_text(_RUNNER.format(python=sys.executable))
        runner.chmod(0o755)
        names = [f"{number:02d}-a={number}" for number in range(3)]
        for name in names:
            (self.path / "units" / name).mkdir(parents=True)
            (self.path / "units" / name / "config.txt").write_text("num_steps: 3\n")
        content = {
            "version": 1,
            "said": {"graph": "a.py", "overrides": [], "sweep": "lr"},
            "source": "",
            "names": {"fdl.a": "a"},
            "units": [{"name": n, "point": {"fdl.a": n[-1]}} for n in names],
        }
        (self.path / "sweep.json").write_text(json.dumps(content))
        self.how({})


def wait(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited for a minute"
        time.sleep(0.01)
