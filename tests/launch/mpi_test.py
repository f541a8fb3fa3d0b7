"""Ranks of a real `mpirun`: they join, have no live line, and end as they are let."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MISSING = "no mpirun: apt-get install openmpi-bin"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("mpirun") is None, reason=MISSING),
]

JOINS = """
import sys
import jax
from runner import runtime
from runner.machine import distributed
from runner.writers.terminal import Terminal
distributed.start(runtime.Runtime())
terminal = Terminal()
terminal.show("a live line")
line = f"{jax.process_index()} of {jax.process_count()} {terminal.live}"
sys.stdout.write(line + "\\n")
"""

# A run that takes three seconds for its checkpoint.
SAVES = """
import os, pathlib, sys, time
from runner.machine.stop_signals import Stop
with Stop() as stop:
    print("up", flush=True)
    while not stop.requested:
        time.sleep(0.05)
    time.sleep(3)
    (pathlib.Path(sys.argv[1]) / os.environ["OMPI_COMM_WORLD_RANK"]).touch()
"""


@contextlib.contextmanager
def mpirun(*command):
    """Two ranks, which end with the block."""
    with subprocess.Popen(
        ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2", *command],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as ranks:
        try:
            yield ranks
        finally:
            ranks.terminate()


def test_ranks_join_and_write_no_escapes_to_a_file():
    with mpirun(sys.executable, "-c", JOINS) as ranks:
        output, errors = ranks.communicate(timeout=120)
    assert ranks.returncode == 0, errors
    # The end of a run is a collective, of which gloo says that it connects.
    ours = [x for x in output.splitlines() if x and not x.startswith("[Gloo]")]
    assert sorted(ours) == ["0 of 2 False", "1 of 2 False"]
    assert "\x1b" not in output


@pytest.mark.parametrize(
    ("flags", "saved"),
    [((), []), (("--mca", "odls_base_sigkill_timeout", "60"), ["0", "1"])],
    ids=["a second", "a minute"],
)
def test_mpirun_gives_its_ranks_a_second_or_what_it_is_told(tmp_path, flags, saved):
    with mpirun(*flags, sys.executable, "-c", SAVES, str(tmp_path)) as ranks:
        assert ranks.stdout is not None
        said = ""  # the ends of lines may come after both
        while said.count("up") < 2:
            said += (line := ranks.stdout.readline())
            assert line, said
        ranks.send_signal(signal.SIGTERM)
        ranks.communicate(timeout=120)
    assert sorted(path.name for path in tmp_path.iterdir()) == saved
