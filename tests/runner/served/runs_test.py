"""Whole trainings from a server that dies: the same bits as from finished records."""

import dataclasses
import functools
import threading

import jax
import numpy as np
import optax
import pytest

import losses
import models
import runner
from runner import data, runtime
from runner.exchange.importing import Choices, import_records
from runner.served import client
from tests.runner.exchange import producers, teacher
from tests.runner.records.sets import VOCABULARY
from tests.runner.served.stand_in import StandIn

KILLS, BETWEEN = 10, 9  # requests


@dataclasses.dataclass(frozen=True)
class Packed(data.DataSource):
    """The rows that the made-up teacher scores."""

    def check(self):
        pass

    def load(self, *, cache=""):
        return teacher.dataset()


def trained(node, cache):
    """The bytes of the state after eight steps."""
    experiment = runner.Experiment(
        student=functools.partial(
            models.Transformer,
            vocab_size=VOCABULARY.size,
            dim=16,
            num_layers=1,
            num_heads=2,
        ),
        teacher=node,
        losses=[losses.LossTerm(name="kd", loss=losses.ForwardKL())],
        train_data=Packed(),
        optimizer=optax.adam(1e-2),
        num_steps=8,
        batch_size=2,
    )
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
