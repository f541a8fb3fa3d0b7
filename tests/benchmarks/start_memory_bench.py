"""Memory that a student of SmolLM2-135M's size takes to start from published weights.

    make bench ONLY=start_memory

A child process reads a folder of random float32 weights (0.54 GB on disk) and a `.gguf`
file of the same, into float32 parameters; its resident memory is watched from before
the first tensor to the whole state. Pages of the file itself are counted too, though
the system takes them back when it needs them. The target, for memory of its own: 1.2
times the parameters.
"""

import functools
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

import losses
import models
from models import pretrained
from models.pretrained import writing
from runner import runtime, starts
from runner.data.labels import Classes
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.weights.published import PublishedWeights

TARGET = 1.2
MODEL = functools.partial(
    models.Transformer,
    vocab_size=49_152,
    dim=576,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    mlp=functools.partial(models.GatedMLP, hidden_dim=1536),
    tie_head=True,
)


def main() -> None:
    """Prints a row a format, and exits 1 above the target."""
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("folder", "model.gguf"):
            path = Path(folder) / name
            for what in ("write", "start"):
                command = [sys.executable, __file__, what, str(path)]
                child = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True
                )
            own, pages, size = json.loads(child.stdout.splitlines()[-1])
            print(
                f"{name:<11} {size / 1e6:.0f} MB of parameters: own memory "
                f"{own / size:.2f} of them (target {TARGET}), with pages of the file "
                f"{pages / size:.2f}"
            )
            missed += [name] if own > TARGET * size else []
    if missed:
        sys.exit(f"above the target: {', '.join(missed)}")


def write(path: Path) -> None:
    """Writes random weights as a folder or a `.gguf` file."""
    draw = np.random.default_rng(0)
    state = nnx.to_pure_dict(
        nnx.state(nnx.eval_shape(lambda: MODEL(rngs=nnx.Rngs(0))), nnx.Param)
    )
    arrays = {
        "/".join(str(key.key) for key in keys): draw.random(leaf.shape, np.float32)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    if path.suffix == ".gguf":
        writing.gguf_writer.write(
            path,
            writing.for_gguf(MODEL),
            arrays,
            dtype="float32",
            context=2048,
            name="random",
            tokenizer={},
        )
        return
    path.mkdir()
    choice = writing.for_folder(MODEL)
    writing.folder.write(path, choice, arrays, dtype="float32", context=2048)


def start(path: Path) -> None:
    """Starts a student; prints the peaks of its own memory and of all, and its size."""
    PublishedWeights.check_vocabulary = lambda *_, **__: None  # it has no tokenizer
    terms = [losses.LossTerm(name="ce", loss=losses.CrossEntropy())]
    modules = TrainModules(pretrained.student(str(path)), terms, optax.sgd(1e-3))
    context = starts.StartContext(
        modules=modules,
        mesh=mesh_lib.make(runtime.Mesh()),
        rules=runtime.Mesh().rules,
        seed=0,
        dataset=_Words(),
    )
    jax.block_until_ready(jax.numpy.ones(3))
    with _Watched() as watched:
        state = starts.Published(path=str(path)).load(context).state()
        jax.block_until_ready(state)
    size = sum(x.nbytes for x in jax.tree.leaves(state.params))
    print(json.dumps([*watched.grown, size]))


class _Words:
    vocabulary: Any = Classes([str(i) for i in range(8)])


class _Watched:
    """The process's memory within a block, each millisecond.

    Attributes:
      grown: bytes by which its own memory, and all that is resident, grew at most.
    """

    def __enter__(self) -> "_Watched":
        self._begin, self.grown = resident(), [0, 0]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            ahead = [
                now - then for now, then in zip(resident(), self._begin, strict=True)
            ]
            self.grown = [max(pair) for pair in zip(self.grown, ahead, strict=True)]

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def resident() -> list[int]:
    """Bytes of the process in memory: its own, and with pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return [int(status[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS")]


if __name__ == "__main__":
    if sys.argv[1:]:
        {"write": write, "start": start}[sys.argv[1]](Path(sys.argv[2]))
    else:
        main()
