"""A real llama.cpp server on this machine, beside our own forward of its file."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tokenizers import Tokenizer
from tokenizers import pre_tokenizers as pre

from models import pretrained
from runner import data
from runner.export.job import Export
from runner.served import client
from runner.state.split_module import SplitModule
from runner.teachers.base import TeacherContext
from runner.teachers.offline import unpacked
from runner.teachers.served import ServedTeacher

PACKAGE = "xllamacpp==2026.10.11549"
HERE = Path(__file__).parent
SAVED = HERE.parents[1] / "compatibility" / "saved_4c223cb"
BEST, LENGTH = 7, 16


@pytest.fixture(name="python", scope="module")
def _python(tmp_path_factory):
    """The Python of an environment of its own that has the package."""
    folder = tmp_path_factory.mktemp("llama_cpp")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", PACKAGE]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{PACKAGE} cannot be had: {done.stderr.splitlines()[-1]}")
    return folder / "bin" / "python"


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
    """A student's `.gguf` file."""
    folder = tmp_path_factory.mktemp("model")
    run, to = folder / "run", folder / "out"
    shutil.copytree(SAVED / "student", run)
    tokenizer = Tokenizer.from_file(str(run / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    (run / "tokenizer.json").write_text(tokenizer.to_str())
    Export(workdir=str(run), to=str(to), format="gguf").write()
    return to / "model.gguf"


def dataset(folder, model):
    file = folder / "text.txt"
    file.write_text("def f(x):\n    return x + 1 if x else [y for y in range(9)]\n" * 3)
    return data.TokenizedText(
        documents=data.TextFiles(files=[str(file)]),
        tokenizer=data.GGUFTokenizer(file=str(model)),
        sequence_length=LENGTH,
    ).load()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def expected_log_probabilities(model, row):
    """`[T V]`, of our own forward of the same file."""
    opened = pretrained.open_model(model)
    split = SplitModule.of(opened.model(rngs=nnx.Rngs(0)))
    module = split.module(opened.arrays(), split.arrays()[1])
    batch = {name: jnp.asarray(x)[None] for name, x in row.items()}
    logits = module.head(module.trunk(batch).hidden)[0]
    return np.asarray(jax.nn.log_softmax(logits))


@pytest.mark.slow
def test_its_scores_are_those_of_our_forward_though_it_is_killed(
    python, model, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(client, "FIRST_WAIT", 0.05)
    rows_of_data, port = dataset(tmp_path, model), free_port()
    node = ServedTeacher(
        url=f"http://127.0.0.1:{port}", model="student", best=BEST, patience=30.0
    )
    context = TeacherContext(
        vocabulary=rows_of_data.vocabulary, mesh=None, rules=(), cache=str(tmp_path)
    )
    loaded = node.load(context)
    rows = loaded.rows_with_records(rows_of_data)

    def start():
        command = [python, HERE / "llama_cpp_server.py", model, str(port)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    server, arrays = start(), {}
    numbers = np.arange(len(rows_of_data))
    reader = threading.Thread(target=lambda: arrays.update(rows.rows(numbers)))
    reader.start()
    try:
        while reader.is_alive() and not list(tmp_path.rglob("*.record")):
            assert server.poll() is None, "the server has ended"
            time.sleep(0.001)
        server.kill()
        server.wait()
        time.sleep(0.3)
        server = start()
        reader.join()
    finally:
        server.kill()
        server.wait()
    assert "the run waits" in capfd.readouterr().err

    teacher = unpacked({n: jnp.asarray(x) for n, x in arrays.items()}, loaded.stored)
    assert teacher.logits is not None and teacher.indices is not None
    log_p = teacher.logits - teacher.log_normalizers[1.0][..., None]
    for number in numbers.tolist():
        ours = expected_log_probabilities(model, rows_of_data[number])
        there = np.take_along_axis(ours, np.asarray(teacher.indices[number]), -1)
        known = rows_of_data[number]["mask"]
        np.testing.assert_allclose(log_p[number][known], there[known], atol=2e-3)
