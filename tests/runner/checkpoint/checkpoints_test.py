import json
import resource
import shutil
import time

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from runner.checkpoint import best, choice, manifest
from runner.checkpoint.checkpoints import Checkpoints
from runner.errors import UserError
from tests.runner.states import abstract, assert_bits, content, flip_a_bit

DTYPES = ["float32", "bfloat16", "float16", "int32", "uint8", "bool"]


def unsealable(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.fixture
def saved(tmp_path):
    """Steps 10 and 20, closed; the directory."""
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        checkpoints.save(10, content(10))
        checkpoints.save(20, content(20))
    return tmp_path / "c"


def test_memories_come_back_with_the_tree_and_older_checkpoints_have_none(saved):
    memories = {"Log": {"sums": {"learning/ce": [0.1 + 0.2, 3.0]}}}
    with Checkpoints(saved, keep=2) as checkpoints:
        checkpoints.save(30, content(30), memories=memories)
        checkpoints.wait()
    sealed = saved / f"{20:08d}" / manifest.NAME
    record = json.loads(sealed.read_text())["manifest"]
    del record["memories"]
    digest = manifest._digest_of(record)
    sealed.write_text(json.dumps({"manifest": record, "sha256": digest}))
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() == 30
        assert checkpoints.memories(30) == memories
        assert checkpoints.memories(20) == {}


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
        assert checkpoints.rejected == []
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
    with (
        pytest.raises(UserError, match="No space"),
        Checkpoints(tmp_path, keep=1) as checkpoints,
    ):
        checkpoints.save(1, content(1))
        checkpoints.wait()
        monkeypatch.setattr(manifest, "seal", unsealable)
        checkpoints.save(2, content(2))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert checkpoints.latest_verified() == 1
        assert [refused.step for refused in checkpoints.rejected] == [2]


def test_temporary_directories_of_killed_runs_go_with_the_first_save(saved):
    left = saved / "00000030.orbax-checkpoint-tmp-17"
    left.mkdir()
    (left / "half").write_text("x")
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() == 20
        assert checkpoints.rejected == []
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
            with pytest.raises(UserError, match=r"00000002 could not .*File too large"):
                checkpoints.save(3, noise)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert checkpoints.latest_verified() == 1
        checkpoints.save(4, noise)
        assert checkpoints.latest_verified() == 4


def test_a_directory_that_is_a_file_surfaces_at_the_end(tmp_path):
    (tmp_path / "c").write_text("")
    with (
        pytest.raises(UserError, match="could not be written"),
        Checkpoints(tmp_path / "c", keep=1) as checkpoints,
    ):
        checkpoints.save(1, content(1))


def test_too_little_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with (
        pytest.raises(UserError, match="takes 8 MB, the disk has 1 MB left"),
        Checkpoints(tmp_path / "a" / "c", keep=1) as checkpoints,
    ):
        checkpoints.save(1, {"w": jnp.zeros(2_000_000)})
    assert not (tmp_path / "a").exists()


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
    with (
        pytest.raises(ZeroDivisionError),
        Checkpoints(tmp_path / "c", keep=1) as checkpoints,
    ):
        checkpoints.save(1, content(1))
        raise ZeroDivisionError
    assert "could not be written" in caplog.text


def test_keep_is_at_least_one(tmp_path):
    with pytest.raises(UserError, match="positive, got 0"):
        Checkpoints(tmp_path, keep=0)


def test_a_part_is_restored_without_the_rest(tmp_path):
    tree = content(3)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(3, tree)
    part = {"params": tree["params"]}
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert_bits(checkpoints.restore_part(3, abstract(part)), part)


def test_a_part_that_was_not_saved_is_named(tmp_path):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(3, content(3))
        wanted = {"params": {"v": jnp.zeros((2,))}}
        with pytest.raises(UserError, match=r"has no 'params/v'; did you mean"):
            checkpoints.restore_part(3, abstract(wanted))
        wanted = {"params": {"w": jnp.zeros((2,))}}
        with pytest.raises(UserError, match=r"'params/w' is float32\[300,400\], want"):
            checkpoints.restore_part(3, abstract(wanted))


def _best_at(step):
    return {best.MEMORY: {"step": step, "metrics": {"loss": 1.0}, "stale": 0}}


def test_the_best_stays_while_one_that_stays_names_it(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        for step, named in [(1, None), (2, 2), (3, 2), (4, 2), (5, 2)]:
            memories = _best_at(named) if named else {}
            checkpoints.save(step, content(step), memories=memories)
        checkpoints.wait()
        held = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
        assert held == [2, 4, 5]
        assert choice.best_step(tmp_path) == 2
        for step in (6, 7):  # 5 names 2 while it is there
            checkpoints.save(step, content(step), memories=_best_at(6))
            checkpoints.wait()
        held = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
        assert held == [6, 7]
        assert choice.best_step(tmp_path) == 6


def test_no_best_step_is_named_where_none_is_whole_or_none_is_kept(tmp_path):
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        choice.best_step(tmp_path)
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(3, content(3))
        checkpoints.wait()
        with pytest.raises(UserError, match="no best checkpoint: its graph has no"):
            choice.best_step(tmp_path)
        checkpoints.save(4, content(4), memories=_best_at(3))
        checkpoints.wait()
    flip_a_bit(tmp_path / "checkpoints" / f"{3:08d}")
    with pytest.raises(UserError, match="its sha256 does not agree"):
        choice.best_step(tmp_path)
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(5, content(5), memories=_best_at(None))
        checkpoints.wait()
    with pytest.raises(UserError, match="no value was finite"):
        choice.best_step(tmp_path)
