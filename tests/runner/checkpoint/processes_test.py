import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.checkpoint.checkpoints import Checkpoints
from tests.runner.states import abstract, assert_bits, content

ROOT = Path(__file__).parents[3]

# Saves for ever, from where the directory stands; by `content`.
SAVER = """
import sys
from runner.checkpoint.checkpoints import Checkpoints
from tests.runner.states import abstract, assert_bits, content
with Checkpoints({directory!r}, keep=2) as checkpoints:
    step = checkpoints.latest_verified() or 0
    if step:
        assert_bits(checkpoints.restore(step, abstract(content(0))), content(step))
    print("from", step, flush=True)
    while True:
        step += 1
        checkpoints.save(step, content(step))
        print("sealed", step - 1, flush=True)
"""


def kill_while_saving(directory, *, kills, seed):
    """After every kill what was sealed is whole, and no less than before it."""
    choose = random.Random(seed)
    script = SAVER.format(directory=str(directory))
    reached = 0
    for _ in range(kills):
        saver = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        with saver:
            assert saver.stdout is not None
            assert saver.stdout.readline() == f"from {reached}\n"
            for _ in range(choose.randint(2, 6)):
                saver.stdout.readline()
            time.sleep(choose.uniform(0.0, 0.1))
            saver.send_signal(signal.SIGKILL)
        with Checkpoints(directory, keep=2) as checkpoints:
            latest = checkpoints.latest_verified() or 0
            assert latest > reached
            for refused in checkpoints.rejected:
                assert "cut short" in refused.reason
            if latest:
                restored = checkpoints.restore(latest, abstract(content(0)))
                assert_bits(restored, content(latest))
        reached = latest


@pytest.mark.slow  # `manifest_test.py` damages each file
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    kill_while_saving(tmp_path, kills=3, seed=1)


@pytest.mark.slow
def test_twenty_kills_leave_a_whole_checkpoint(tmp_path):
    kill_while_saving(tmp_path, kills=20, seed=2)


# One of two processes with two devices each; both see one directory.
MEMBER = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize("localhost:{port}", 2, {process})
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from runner.checkpoint.checkpoints import Checkpoints
from tests.runner.states import abstract, assert_bits
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
rows = NamedSharding(mesh, PartitionSpec("data"))
tree = jax.jit(lambda: jax.numpy.arange(64.0), out_shardings=rows)()
following = jax.jit(lambda w: w + 1, donate_argnums=0)
with Checkpoints({directory!r}, keep=2) as checkpoints:
    assert checkpoints.latest_verified() is None
    for step in range(4):
        checkpoints.save(step, tree)
        tree = following(tree)
    assert checkpoints.latest_verified() == 3
    restored = checkpoints.restore(3, abstract(tree))
    for was, now in zip(
        restored.addressable_shards, tree.addressable_shards, strict=True
    ):
        assert_bits(was.data + 1, now.data)
    checkpoints.save(3, restored)
    checkpoints.save(5, tree)
"""


@pytest.mark.slow
def test_two_processes_save_and_restore_together(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    members = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                MEMBER.format(
                    port=port,
                    process=process,
                    directory=str(tmp_path),
                ),
            ],
            cwd=ROOT,
        )
        for process in range(2)
    ]
    assert [member.wait(timeout=120) for member in members] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000003", "00000005"]
