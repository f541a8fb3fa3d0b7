"""Runs of several processes on this machine, over gloo: equal, killed, stopped."""

import dataclasses
import json
import shutil
import signal
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from runner import runtime
from runner.checkpoint.checkpoints import Checkpoints
from runner.errors import PeerLost, UserError
from runner.machine import distributed
from tests.runner.machine.pairs import Pair
from tests.runner.states import flip_a_bit

STEPS = 60
SECONDS = 60  # in which a process that lost the others must have ended


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Pair(tmp_path_factory.mktemp("pair"), steps=STEPS)


@pytest.fixture(scope="module")
def both(pair):
    """The work directory of two processes that nothing interrupted."""
    first, second = pair.run_all("both")
    assert "held_out" in first
    assert "held_out" not in second and "step" not in second
    return "both"


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(pair, both):
    pair.run("one")
    ours, theirs = pair.metrics(both), pair.metrics("one")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    assert len(ours) > 10
    for one, other in zip(ours[:11], theirs[:11], strict=True):
        assert one.keys() == other.keys()
        for name in one:
            if name.startswith(("learning/", "contributions/", "held_out/loss")):
                # Absolute for the divergence from the student's own average, near 0.
                np.testing.assert_allclose(
                    one[name], other[name], rtol=1e-6, atol=1e-6, err_msg=name
                )


# The runner; which rows of the data it reads for each batch goes to a file.
READS_NOTED = """
import json, sys
from runner import main
from runner.data import pipeline
read = pipeline._read
def noted(dataset, numbers):
    with open({path!r}, "a") as file:
        file.write(json.dumps(numbers.tolist()) + "\\n")
    return read(dataset, numbers)
pipeline._read = noted
main.run()
"""


@pytest.mark.slow
def test_each_process_reads_the_rows_of_its_own_devices_alone(pair):
    paths = [pair.directory / f"rows-{process}.jsonl" for process in range(2)]
    programs = [("-c", READS_NOTED.format(path=str(path))) for path in paths]
    pair.ended(pair.start_all("rows", "--fdl.num_steps=2", programs=programs))
    first, second = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in paths
    )
    assert {len(rows) for rows in (*first, *second)} == {4}  # of batches of 8
    for ours, theirs in zip(first, second, strict=False):
        assert not {*ours} & {*theirs} - {-1}


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_killed_ends_the_other_and_both_go_on_bit_for_bit(pair, both, victim):
    workdir = f"killed-{victim}"
    processes = pair.start_all(workdir)
    pair.until(workdir, 7, processes)
    processes[victim].kill()
    survivor = processes[1 - victim]
    output, _ = survivor.communicate(timeout=SECONDS)
    processes[victim].communicate()
    if "indicates that another task died" in output:  # JAX's watch was first
        assert survivor.returncode == -signal.SIGABRT
    else:
        assert survivor.returncode == PeerLost.code, output
        [line] = [line for line in output.splitlines() if line.startswith("runner: ")]
        assert "another process of this run has ended or is out of reach" in line
        assert "Traceback" not in output
    pair.run_all(workdir)
    pair.assert_same_run(workdir, both)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_stops_both_after_the_same_step(pair, both, asked, number):
    workdir = f"{number.name}-{asked}"
    processes = pair.start_all(workdir)
    pair.until(workdir, 5, processes)
    processes[asked].send_signal(number)
    outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert codes[1 - asked] == 0, outputs
    assert codes[asked] == (130 if number == signal.SIGINT else 0), outputs
    with Checkpoints(pair.checkpoints(workdir), keep=1) as checkpoints:
        step = checkpoints.latest_verified()
        assert not checkpoints.rejected
    assert f"stopped after step {step} of {STEPS}" in outputs[0]
    assert step == pair.last_step(workdir) < STEPS
    pair.run_all(workdir)
    pair.assert_same_run(workdir, both)


@pytest.mark.slow
def test_a_mistake_seen_by_the_first_alone_ends_both(pair, both):
    first, second = pair.start_all(both, "--fdl.seed=1")
    output, _ = first.communicate(timeout=SECONDS)
    second.communicate(timeout=SECONDS)
    assert first.returncode == 2
    assert "the graph changed since" in output
    assert second.returncode != 0


@pytest.mark.slow
def test_damage_of_all_checkpoints_ends_both_with_a_line(pair, both):
    shutil.copytree(pair.directory / both, pair.directory / "damaged")
    for directory in pair.checkpoints("damaged").iterdir():
        flip_a_bit(directory)
    first, second = pair.run_all("damaged", code=2)
    assert "no checkpoint is whole" in first and "--begin_anew" in first
    assert "process 1: no checkpoint is whole, as the first process says" in second
    for output in (first, second):
        assert output.count("runner: ") == 1
        assert "Traceback" not in output and "Check failed" not in output


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_both_with_its_rows(pair):
    outputs = pair.run_all("nan", "--fdl.losses.z_loss.weight=1e38", code=1)
    for output in outputs:
        assert "Traceback" not in output
        assert "dataset rows" in output


def wanted(environment=(), **settings) -> Any:
    asked = dataclasses.replace(runtime.Distributed(), **settings)
    return distributed.arguments(asked, dict(environment))


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
OMPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}


def test_a_process_alone_joins_nobody():
    assert wanted() is None
    assert wanted({**SLURM, "SLURM_NTASKS": "1"}) is None


@pytest.mark.parametrize("message", ["sockets.txt: Connection closed by peer", ""])
def test_an_error_of_a_process_alone_is_none_of_a_peer(message):
    error = ValueError(message)
    with pytest.raises(ValueError) as raised, distributed.together():
        raise error
    assert raised.value is error


def test_launchers_say_how_many_there_are():
    assert wanted(SLURM) == {"cluster_detection_method": "slurm"}
    assert wanted({**OMPI, "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:3"}) == {
        "cluster_detection_method": "ompi"
    }
    assert wanted(detect=True) == {}


def test_flags_win_over_the_launcher():
    found = wanted(SLURM, coordinator="h:1", processes=3, process=2)
    assert found["num_processes"] == 3 and found["process_id"] == 2
    assert found["coordinator_address"] == "h:1"
    assert found["cluster_detection_method"] == "deactivate"


def test_a_coordinator_alone_takes_the_rest_from_the_launcher():
    found = wanted(OMPI, coordinator="h:1")
    assert found["num_processes"] == 4 and found["process_id"] == 3


def test_an_open_mpi_that_names_no_first_host_wants_a_coordinator():
    with pytest.raises(UserError, match="Open MPI from 5 on does not say where"):
        wanted(OMPI)


def test_half_a_setting_is_refused_with_the_other_half():
    with pytest.raises(UserError, match=r"processes is 1; say how many"):
        wanted(coordinator="h:1")
    with pytest.raises(UserError, match=r"distributed\.coordinator=HOST:PORT"):
        wanted(processes=2)


def test_a_process_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"process must be 0 to 1, got 2"):
        runtime.Distributed(processes=2, process=2)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node001", "node001"),
        ("node001,other", "node001"),
        ("node[001-015],other", "node001"),
        ("node[001,007-015]", "node001"),
    ],
)
def test_the_first_host_is_read_from_the_nodes_as_jax_does(nodes, host):
    environment = {**SLURM, "SLURM_STEP_NODELIST": nodes}
    assert distributed._first_host(wanted(environment), environment) == host


def test_a_host_without_an_address_is_named_at_once():
    config = runtime.Runtime(
        distributed=runtime.Distributed(coordinator="nowhere.invalid:1", processes=2)
    )
    with pytest.raises(UserError, match=r"nowhere\.invalid, the host of the first"):
        distributed.start(config)


# Two processes, one of which ends early while the other works or waits at the end.
LEAVES = """
import os, signal, sys, time
import jax
from jax.experimental import multihost_utils
from runner.machine import departures, distributed
port, process, who, code, works = map(int, sys.argv[1:])
jax.distributed.initialize(f"localhost:{port}", 2, process)
departures.watch()
multihost_utils.sync_global_devices("as training does")
if process == who and code < 0:
    time.sleep(3)  # until the other waits
    os.kill(os.getpid(), -code)
if process == who:
    distributed.leave(code)
time.sleep(60 * works)
"""


def ended(who, code, works=0):
    """Exit codes and stderr of a pair of which `who` ends with a code; 2 for neither.

    A heartbeat would be missed after more seconds (100) than are waited for.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pair = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", LEAVES),
                *map(str, (port, process, who, code, works)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    errors = [process.communicate(timeout=SECONDS)[1] for process in pair]
    return [process.returncode for process in pair], errors


@pytest.mark.slow
@pytest.mark.parametrize("works", [0, 1], ids=["at the end", "at work"])
@pytest.mark.parametrize(("who", "codes"), [(0, [7, 6]), (1, [6, 7])])
def test_an_early_end_of_one_is_the_end_of_the_other_in_one_line(who, codes, works):
    ours, errors = ended(who, 7, works)
    assert ours == codes, errors
    [line] = lines_of_ours(errors[1 - who])
    assert f"process {who} of this run has ended with exit code 7" in line


@pytest.mark.slow
def test_two_that_end_in_order_say_nothing():
    codes, errors = ended(2, 0)
    assert codes == [0, 0]
    assert not any(map(lines_of_ours, errors))


@pytest.mark.slow
@pytest.mark.parametrize(("who", "codes"), [(0, [-9, 6]), (1, [6, -9])])
def test_one_killed_at_the_end_ends_the_other_at_once_in_one_line(who, codes):
    ours, errors = ended(who, -signal.SIGKILL)
    assert ours == codes, errors
    [line] = lines_of_ours(errors[1 - who])
    assert "another process of this run was killed, or is out of reach" in line
    assert "start all again: the run goes on from its last checkpoint" in line


def lines_of_ours(errors):
    """Lines but the one that gloo prints of each process."""
    return [line for line in errors.splitlines() if not line.startswith("[Gloo]")]


@pytest.mark.slow
def test_others_that_do_not_come_are_one_line(pair):
    command = [*pair.flags, f"--workdir={pair.directory / 'alone'}"]
    alone = subprocess.run(
        [
            *(sys.executable, "-m", "runner.main"),
            *command,
            "--gin.distributed.coordinator=localhost:1",
            "--gin.distributed.processes=2",
            "--gin.distributed.process=1",
            "--gin.distributed.start_seconds=3",
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert alone.returncode != 0
    assert not (pair.directory / "alone").exists()
