import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from runner import manifest
from runner.checkpoints import Checkpoints
from runner.errors import UserError

DTYPES = ["float32", "bfloat16", "float16", "int32", "uint8", "bool"]


def abstract(tree):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=leaf.sharding
        ),
        tree,
    )


def content(step):
    """A tree that tells its step: every dtype that a state holds, one leaf 0-d."""
    return {
        "step": jnp.int32(step),
        "params": {"w": jnp.full((300, 400), step, jnp.float32) / jnp.float32(7)},
        "optimizer": (jnp.full((5,), step, jnp.bfloat16), ()),
        "empty": jnp.zeros((0, 3)),
    }


def assert_bits(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def unsealable(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.fixture
def saved(tmp_path):
    """Steps 10 and 20, closed; the directory."""
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        checkpoints.save(10, content(10))
        checkpoints.save(20, content(20))
    return tmp_path / "c"


def array_file(checkpoint):
    """The largest file that orbax wrote: the one with the arrays."""
    files = [path for path in checkpoint.glob("ocdbt*/d/*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


@hypothesis.settings(max_examples=15)
@hypothesis.given(
    leaves=st.lists(
        st.tuples(
            st.sampled_from(DTYPES),
            st.lists(st.integers(0, 4), max_size=3),
            st.binary(min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_bits_come_back(tmp_path_factory, leaves):
    def array(dtype, shape, seed):
        item = jnp.dtype(dtype)
        size = int(np.prod(shape)) * item.itemsize
        raw = np.frombuffer((seed * size)[:size], np.uint8)
        raw = raw & 1 if dtype == "bool" else raw
        return jnp.asarray(raw.view(item).reshape(shape))

    tree = {str(i): array(*leaf) for i, leaf in enumerate(leaves)}
    tree["step"] = jnp.int32(3)
    with Checkpoints(tmp_path_factory.mktemp("c"), keep=1) as checkpoints:
        checkpoints.save(3, tree)
        assert checkpoints.latest_verified() == 3
        assert_bits(checkpoints.restore(3, abstract(tree)), tree)


def test_a_new_process_restores_the_newest(saved):
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() == 20
        assert checkpoints.refused == []
        assert_bits(checkpoints.restore(20, abstract(content(0))), content(20))


def test_nothing_saved_is_none_and_makes_no_directory(tmp_path):
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        assert checkpoints.latest_verified() is None
    assert not (tmp_path / "c").exists()


def test_a_save_restores_on_another_mesh(tmp_path):
    def on(shape, axes, spec, value):
        mesh = jax.make_mesh(
            shape,
            axes,
            axis_types=(jax.sharding.AxisType.Auto,) * len(axes),
            devices=jax.devices()[: int(np.prod(shape))],
        )
        return jax.device_put(value, NamedSharding(mesh, PartitionSpec(*spec)))

    value = jnp.arange(64.0).reshape(16, 4)
    layouts = [
        on((1,), ("data",), (), value),
        on((8,), ("data",), ("data",), value),
        on((4, 2), ("data", "tensor"), ("data", "tensor"), value),
        on((8,), ("data",), (), value),
    ]
    with Checkpoints(tmp_path, keep=4) as checkpoints:
        for step, here in enumerate(layouts):
            checkpoints.save(step, {"w": here})
            for there in layouts:
                restored = checkpoints.restore(step, abstract({"w": there}))["w"]
                assert restored.sharding == there.sharding
                assert_bits(restored, value)


def test_arrays_may_be_donated_at_once(tmp_path):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    following = jax.jit(lambda w: w + 1, donate_argnums=0)
    for sharding in (rows, jax.sharding.SingleDeviceSharding(jax.devices()[0])):
        tree = jax.device_put(jnp.zeros((1024, 1024)), sharding)
        like = abstract(tree)
        with Checkpoints(tmp_path / str(len(sharding.device_set)), keep=5) as it:
            for step in range(5):
                it.save(step, tree)
                for _ in range(10):
                    tree = following(tree)
            for step in range(5):
                assert (np.asarray(it.restore(step, like)) == 10 * step).all()


def test_a_save_of_a_settled_step_is_no_second_save(saved):
    with Checkpoints(saved, keep=2) as checkpoints:
        checkpoints.restore(20, abstract(content(0)))
        before = (saved / "00000020" / manifest.NAME).stat().st_mtime_ns
        checkpoints.save(20, content(20))
        checkpoints.wait()
        assert (saved / "00000020" / manifest.NAME).stat().st_mtime_ns == before


def test_the_newest_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in range(5):
            checkpoints.save(step, content(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000003", "00000004"]


def test_an_older_one_stays_until_a_newer_is_sealed(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="No space"):  # noqa: SIM117
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            checkpoints.save(1, content(1))
            checkpoints.wait()
            monkeypatch.setattr(manifest, "seal", unsealable)
            checkpoints.save(2, content(2))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert checkpoints.latest_verified() == 1
        assert [refused.step for refused in checkpoints.refused] == [2]


def truncate(checkpoint):
    os.truncate(array_file(checkpoint), array_file(checkpoint).stat().st_size - 1)


def flip_a_bit(checkpoint):
    path = array_file(checkpoint)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def edit(change):
    """A fault of the manifest: `change` made to its parsed form."""

    def fault(checkpoint):
        record = json.loads((checkpoint / manifest.NAME).read_text())
        change(record)
        (checkpoint / manifest.NAME).write_text(json.dumps(record))

    return fault


def flip_every_metadata_byte_once(checkpoint):
    for path in checkpoint.rglob("_METADATA"):
        path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


FAULTS = {
    "truncated": (truncate, "bytes"),
    "a bit flipped": (flip_a_bit, "altered"),
    "a file grown": (lambda c: os.truncate(array_file(c), 10**6), "bytes"),
    "a file deleted": (lambda c: array_file(c).unlink(), "missing"),
    "a directory for a file": (
        lambda c: ((c / "_METADATA").unlink(), (c / "_METADATA").mkdir()),
        "bytes",
    ),
    "metadata altered": (flip_every_metadata_byte_once, "_METADATA is altered"),
    "no manifest": (lambda c: (c / manifest.NAME).unlink(), "cut short"),
    "an empty manifest": (lambda c: (c / manifest.NAME).write_text(""), "damaged"),
    "half a manifest": (lambda c: os.truncate(c / manifest.NAME, 200), "damaged"),
    "a manifest of a list": (lambda c: (c / manifest.NAME).write_text("[]"), "damaged"),
    "a manifest not of text": (
        lambda c: (c / manifest.NAME).write_bytes(b"\xff\xfe"),
        "cannot be read",
    ),
    "another dtype in it": (
        edit(lambda r: r["manifest"]["leaves"]["step"].update(dtype="int16")),
        "digest",
    ),
    "an empty directory": (
        lambda c: (shutil.rmtree(c), c.mkdir()),
        "cut short",
    ),
    "the directory of another step": (
        lambda c: (shutil.rmtree(c), shutil.copytree(c.parent / "00000010", c)),
        "step 10",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_one_is_named_and_the_one_before_used(saved, caplog, name):
    fault, reason = FAULTS[name]
    fault(saved / "00000020")
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() == 10
        (refused,) = checkpoints.refused
        assert refused.step == 20 and reason in refused.reason
        assert "00000020" in caplog.text and reason in caplog.text
        with pytest.raises(UserError, match="00000020 refused"):
            checkpoints.restore(20, abstract(content(0)))
        assert_bits(checkpoints.restore(10, abstract(content(0))), content(10))
        checkpoints.save(20, content(20))  # the run gets there again
        checkpoints.wait()
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() == 20
        assert_bits(checkpoints.restore(20, abstract(content(0))), content(20))


def test_a_single_flipped_bit_anywhere_is_seen(saved):
    choose = random.Random(0)
    paths = [path for path in (saved / "00000020").rglob("*") if path.is_file()]
    for path in paths:
        whole = path.read_bytes()
        for _ in range(20):
            flipped = bytearray(whole)
            flipped[choose.randrange(len(whole))] ^= 1 << choose.randrange(8)
            path.write_bytes(flipped)
            with pytest.raises(manifest.Damaged):
                manifest.check(saved / "00000020", step=20)
        path.write_bytes(whole)
    manifest.check(saved / "00000020", step=20)


def test_all_damaged_is_none_and_every_one_named(saved):
    for step in ("00000010", "00000020"):
        flip_a_bit(saved / step)
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() is None
        assert [refused.step for refused in checkpoints.refused] == [20, 10]


def test_temporary_directories_of_killed_runs_go_with_the_first_save(saved):
    left = saved / "00000030.orbax-checkpoint-tmp-17"
    left.mkdir()
    (left / "half").write_text("x")
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() == 20
        assert checkpoints.refused == []
        assert left.exists()  # a reader deletes nothing: another run may own it
        checkpoints.save(30, content(30))
    assert sorted(path.name for path in saved.iterdir()) == ["00000020", "00000030"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["params"].update(v=jnp.zeros(2)), "no 'params/v'"),
        (lambda t: t["params"].pop("w"), "holds 'params/w'"),
        (
            lambda t: t["params"].update(w=jnp.zeros((300, 400), jnp.bfloat16)),
            r"'params/w' is float32\[300,400\], wanted bfloat16\[300,400\]",
        ),
        (lambda t: t["params"].update(w=jnp.zeros((400, 300))), r"float32\[400,300\]"),
        (lambda t: t.update(empty=jnp.zeros((0, 4))), "'empty'"),
    ],
)
def test_another_tree_is_refused_by_parameter(saved, change, message):
    tree = content(0)
    change(tree)
    with (
        Checkpoints(saved, keep=2) as checkpoints,
        pytest.raises(UserError, match=message),
    ):
        checkpoints.restore(20, abstract(tree))


def test_a_full_disk_surfaces_at_the_next_call(tmp_path):
    noise = {"w": jax.random.normal(jax.random.key(0), (1 << 20,))}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, noise)
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            checkpoints.save(2, noise)
            with pytest.raises(UserError, match="00000002 could not be written"):
                checkpoints.save(3, noise)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert checkpoints.latest_verified() == 1
        checkpoints.save(4, noise)
        assert checkpoints.latest_verified() == 4


def test_a_directory_that_is_a_file_surfaces_at_the_end(tmp_path):
    (tmp_path / "c").write_text("")
    with pytest.raises(UserError, match="could not be written"):  # noqa: SIM117
        with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
            checkpoints.save(1, content(1))


def test_a_failure_is_seen_without_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "seal", unsealable)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.check()
        checkpoints.save(1, content(1))
        with pytest.raises(UserError, match="No space"):
            while True:
                checkpoints.check()
                time.sleep(0.01)
        checkpoints.check()  # said once


def test_an_error_in_the_run_is_not_hidden_by_that_of_the_save(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(manifest, "seal", unsealable)
    with pytest.raises(ZeroDivisionError):  # noqa: SIM117
        with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
            checkpoints.save(1, content(1))
            raise ZeroDivisionError
    assert "could not be written" in caplog.text


def test_keep_is_at_least_one(tmp_path):
    with pytest.raises(UserError, match="positive, got 0"):
        Checkpoints(tmp_path, keep=0)


# Saves for ever, from where the directory stands; `content` is this file's.
SAVER = """
import sys
sys.path[:0] = {path!r}
from checkpoints_test import Checkpoints, abstract, assert_bits, content
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
    here = Path(__file__)
    script = SAVER.format(
        path=[str(here.parent), str(here.parents[2])], directory=str(directory)
    )
    reached = 0
    for _ in range(kills):
        saver = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
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
            for refused in checkpoints.refused:
                assert "cut short" in refused.reason
            if latest:
                restored = checkpoints.restore(latest, abstract(content(0)))
                assert_bits(restored, content(latest))
        reached = latest


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    kill_while_saving(tmp_path, kills=3, seed=1)


@pytest.mark.slow
def test_twenty_kills_leave_a_whole_checkpoint(tmp_path):
    kill_while_saving(tmp_path, kills=20, seed=2)


# One of two processes with two devices each; both see one directory.
MEMBER = """
import sys
sys.path[:0] = {path!r}
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize("localhost:{port}", 2, {process})
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from checkpoints_test import Checkpoints, abstract, assert_bits
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
    here = Path(__file__)
    members = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                MEMBER.format(
                    path=[str(here.parent), str(here.parents[2])],
                    port=port,
                    process=process,
                    directory=str(tmp_path),
                ),
            ]
        )
        for process in range(2)
    ]
    assert [member.wait(timeout=120) for member in members] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000003", "00000005"]
