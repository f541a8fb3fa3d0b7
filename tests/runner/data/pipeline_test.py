import dataclasses
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from runner.data import batches, evaluation_batches
from runner.data.text.packing import Packing
from runner.errors import UserError
from runner.runtime import Input

ONE = SingleDeviceSharding(jax.devices()[0])
MESH = jax.make_mesh((2, 2, 2), ("a", "b", "c"), axis_types=(AxisType.Auto,) * 3)
SHARDINGS = {
    "one device": ONE,
    "last device": SingleDeviceSharding(jax.devices()[-1]),
    "replicated": NamedSharding(MESH, PartitionSpec()),
    "8 ways": NamedSharding(MESH, PartitionSpec(("a", "b", "c"))),
    "8 ways, reversed": NamedSharding(MESH, PartitionSpec(("c", "b", "a"))),
    "4 ways": NamedSharding(MESH, PartitionSpec(("a", "b"))),
    "rows and columns": NamedSharding(MESH, PartitionSpec(("a", "b"), "c")),
    "columns": NamedSharding(MESH, PartitionSpec(None, "c")),
}


def dataset(rows=21, length=4):
    """Two documents over `rows` rows, the last one with padding."""
    ids = np.arange(1, rows * length - 2, dtype=np.uint16)
    offsets = np.array([0, len(ids) // 2, len(ids)], np.int64)
    return Packing(tokens=ids, offsets=offsets, begin=0, end=0, sequence_length=length)


def take(count, *, data=None, start=0, seed=0, sharding=ONE, size=8, **config):
    data = dataset() if data is None else data
    with batches(
        data,
        batch_size=size,
        seed=seed,
        start=start,
        sharding=sharding,
        config=Input(**config),
    ) as stream:
        return [jax.tree.map(np.asarray, next(stream)) for _ in range(count)]


def same(left, right):
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name], name)


def test_a_batch_holds_the_rows_its_index_names():
    for batch in take(5):
        assert batch["index"].shape == (8,)
        assert batch["index"].dtype == np.int32
        for name, array in dataset().rows(batch["index"]).items():
            np.testing.assert_array_equal(batch[name], array)
            assert batch[name].dtype == array.dtype


@pytest.mark.parametrize("name", SHARDINGS)
def test_a_batch_is_the_same_under_every_sharding(name):
    same(take(4, sharding=SHARDINGS[name]), take(4))


@pytest.mark.parametrize("name", SHARDINGS)
def test_arrays_have_the_sharding_asked_for(name):
    sharding = SHARDINGS[name]
    with batches(
        dataset(), batch_size=8, seed=0, start=0, sharding=sharding, config=Input()
    ) as stream:
        batch = next(stream)
    assert batch["tokens"].sharding.is_equivalent_to(sharding, 2)
    assert (
        batch["index"].sharding.shard_shape((8,))
        == (batch["tokens"].sharding.shard_shape((8, 4))[:1])
    )


@pytest.mark.parametrize(
    "config", [{"prefetch": 1}, {"threads": 1}, {"threads": 8}, {"prefetch": 50}]
)
def test_a_batch_is_the_same_however_it_is_prefetched(config):
    same(take(6, **config), take(6))


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7, 11])
def test_a_stream_resumed_is_the_stream_continued(start):
    same(take(12 - start, start=start), take(12)[start:])


@settings(max_examples=12)
@given(st.integers(8, 40), st.integers(3, 8), st.integers(0, 2**40))
def test_every_epoch_has_every_row_once(rows, size, seed):
    steps = -(-2 * rows // size)
    index = [b["index"] for b in take(steps, data=dataset(rows), size=size, seed=seed)]
    index = np.concatenate(index)
    for epoch in range(2):
        seen = index[epoch * rows : (epoch + 1) * rows]
        np.testing.assert_array_equal(np.sort(seen), np.arange(rows))


def test_epochs_and_seeds_have_their_own_orders():
    rows = 40
    orders = [
        tuple(np.concatenate([b["index"] for b in take(5, data=dataset(rows), **at)]))
        for at in (
            *({"start": 5 * epoch} for epoch in range(3)),
            {"seed": 1},
            {"seed": 2},
            {"seed": 1, "start": 5},
        )
    ]
    assert len(set(orders)) == len(orders)
    assert tuple(range(rows)) not in orders


def test_starting_late_takes_no_longer_than_starting_early():
    take(1)
    begun = time.perf_counter()
    late = take(1, start=10**9)
    assert time.perf_counter() - begun < 2.0
    assert late[0]["index"].shape == (8,)


def test_fewer_rows_than_a_batch_are_refused_with_both_numbers():
    with pytest.raises(UserError, match=r"has 21 rows, fewer than one batch of 22"):
        take(1, size=22)
    assert len(take(1, size=21)[0]["index"]) == 21


def test_closing_stops_the_threads():
    before = set(threading.enumerate())
    with batches(
        dataset(), batch_size=8, seed=0, start=0, sharding=ONE, config=Input(threads=4)
    ) as stream:
        next(stream)
        started = set(threading.enumerate()) - before
        assert started
    for thread in started:
        thread.join(timeout=30)
        assert not thread.is_alive()


def fields(packing):
    return {x.name: getattr(packing, x.name) for x in dataclasses.fields(packing)}


def test_what_fails_in_a_thread_is_raised_to_the_reader():
    class Broken(Packing):
        def rows(self, numbers):
            raise OSError("the disk is gone")

    whole = dataset()
    broken = Broken(**fields(whole))
    with pytest.raises(OSError, match="the disk is gone"):
        take(1, data=broken)


def evaluated(data, size, sharding=ONE, limit=None):
    return [
        jax.tree.map(np.asarray, batch)
        for batch in evaluation_batches(
            data, batch_size=size, sharding=sharding, limit=limit
        )
    ]


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(1, 9))
def test_evaluation_reads_each_row_once_and_in_order(rows, size):
    data = dataset(rows)
    found = evaluated(data, size)
    assert all(batch["index"].shape == (size,) for batch in found)
    index = np.concatenate([batch["index"] for batch in found])
    assert index[:rows].tolist() == list(range(rows))
    assert (index[rows:] == -1).all()
    mask = np.concatenate([batch["mask"] for batch in found])
    assert not mask[rows:].any()
    targets = np.concatenate([batch["targets"] for batch in found])
    wanted = data.rows(np.arange(rows))
    np.testing.assert_array_equal(targets[mask], wanted["targets"][wanted["mask"]])


@pytest.mark.parametrize("name", SHARDINGS)
def test_evaluation_is_the_same_under_every_sharding(name):
    same(evaluated(dataset(), 8, SHARDINGS[name]), evaluated(dataset(), 8))


def test_a_limit_spreads_rows_over_the_whole_dataset():
    index = np.concatenate([b["index"] for b in evaluated(dataset(40), 4, limit=2)])
    assert index.tolist() == [0, 5, 10, 15, 20, 25, 30, 35]
    everything = evaluated(dataset(), 8, limit=100)
    same(everything, evaluated(dataset(), 8))


# One of two processes with four devices each: it prints what its devices hold of three
# batches, and which rows were read for that.
MEMBER = """
import json, sys
sys.path[:0] = {path!r}
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.distributed.initialize("localhost:{port}", 2, {process})
import pipeline_test as test
read = []
class Watched(test.Packing):
    def rows(self, numbers):
        read.append(numbers.tolist())
        return super().rows(numbers)
whole = test.dataset()
data = Watched(**test.fields(whole))
found = []
with test.batches(
    data, batch_size=8, seed=0, start=0, config=test.Input(threads=1),
    sharding=test.SHARDINGS["4 ways"],
) as stream:
    for step in range(3):
        shards = next(stream)["targets"].addressable_shards
        found.append([(s.index[0].start, s.data.tolist()) for s in shards])
print(json.dumps([read[:3], found]))
"""


@pytest.mark.slow
def test_each_of_two_processes_reads_only_its_own_rows():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    here = Path(__file__)
    path = [str(here.parent), str(here.parents[3])]
    members = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                MEMBER.format(path=path, port=port, process=process),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    printed = [member.communicate(timeout=120)[0] for member in members]
    one_process = take(3)
    for process, line in enumerate(printed):
        read, found = json.loads(line)
        for step, batch in enumerate(one_process):
            own = slice(4 * process, 4 * process + 4)
            assert read[step] == batch["index"][own].tolist()
            for first, targets in found[step]:
                assert targets == batch["targets"][first : first + 2].tolist()
