"""Whole trainings from a server that dies: the same bits as from finished records."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time

import fiddle as fdl
import jax
import numpy as np
import pytest

import runner
from runner import runtime
from runner.exchange.importing import Choices, import_records
from runner.served import client
from tests.architecture.imports import ROOT
from tests.runner.exchange import producers, teacher
from tests.runner.served import tiny
from tests.runner.served.stand_in import StandIn

KILLS, BETWEEN = 10, 9  # requests


def trained(node, cache):
    """The bytes of the state after eight steps."""
    experiment = dataclasses.replace(fdl.build(tiny.config()), teacher=node)
    config = runtime.Runtime(
        mesh=runtime.Mesh(data=1, tensor=8),
        input=runtime.Input(cache=str(cache)),
    )
    setup = experiment.prepare(config)
    leaves = jax.tree.leaves(setup.initial_state())
    with setup.batches(start=0) as batches:
        for _ in range(8):
            leaves, _ = setup.step(leaves, next(batches))
    return [np.asarray(x).tobytes() for x in leaves]


@pytest.mark.slow
def test_a_server_killed_ten_times_teaches_the_same_bits(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(client, "FIRST_WAIT", 0.02)
    producers.llama_cpp(tmp_path / "answers.jsonl")
    source, to = tmp_path / "answers.jsonl", tmp_path / "records"
    import_records("llama_cpp", source, to, teacher.dataset(), Choices())
    expected = trained(runner.OfflineTeacher(records=str(to)), tmp_path / "a")

    server, finished = StandIn("llama_cpp"), threading.Event()
    with server.running() as url:
        pass  # its port is free again
    port = int(url.rpartition(":")[2])

    def live_and_die():
        for life in range(KILLS):
            with server.running(port):
                while len(server.asked) < BETWEEN * (life + 1):
                    finished.wait(0.002)
            finished.wait(0.2)
        with server.running(port):
            finished.wait()

    thread = threading.Thread(target=live_and_die)
    thread.start()
    try:
        node = runner.ServedTeacher(url=url, model="tiny", best=teacher.K, requests=2)
        actual = trained(node, tmp_path / "b")
    finally:
        finished.set()
        thread.join()
    assert actual == expected
    lines = capfd.readouterr().err
    assert lines.count("the run waits") >= KILLS <= lines.count("the run goes on")


@pytest.mark.slow
def test_ctrl_c_while_the_server_is_away_ends_the_run_after_its_last_step(tmp_path):
    server = StandIn("llama_cpp")
    with server.running() as url:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "runner.main"),
                f"--fdl_config={ROOT / 'tests' / 'runner' / 'served' / 'tiny.py'}",
                f"--fdl.teacher.url={url}",
                "--fdl.teacher.requests=1",
                "--gin.loop.log_every=1",
                f"--gin.input.cache={tmp_path / 'cache'}",
                f"--workdir={tmp_path / 'run'}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        )
        # Some rows are there, and others are not; then the server goes away.
        while len(server.asked) < 60 and process.poll() is None:
            time.sleep(0.01)
    assert process.stdout is not None
    lines, asked = [], 0.0
    with process.stdout:
        for line in process.stdout:
            lines.append(line)
            if "the run waits" in line and not asked:
                time.sleep(1.0)
                process.send_signal(signal.SIGINT)
                asked = time.monotonic()
    output = "".join(lines)
    assert process.wait(60) == 130, output
    assert time.monotonic() - asked < 30  # the server's patience is an hour
    assert "Traceback" not in output and "stopped after step" in output, output
