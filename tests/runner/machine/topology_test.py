import importlib.util
import subprocess
import sys

import jax
import pytest

from runner import runtime
from runner.errors import UserError
from runner.head import flops
from runner.machine import mesh, topology


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5e:16x16", "256 x TPU v5 lite"),
        ("v5p:2x2x2", "8 x TPU v5"),
        ("h100:8", "8 x NVIDIA H100"),
        ("cpu:24", "24 x cpu"),
    ],
)
def test_a_name_is_a_chip_and_how_many(name, said):
    assert str(topology.parse(name)) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("h10:8", "no chip 'h10'; did you mean 'h100'?"),
        ("abacus:8", "no chip 'abacus'; one of: a100, "),
        ("h100", "'h100' names no number of chips; write h100:8"),
        ("h100:0", "names no number of chips; write h100:8"),
        ("h100:4x2", "names no number of chips; write h100:8"),
        ("v5e:256", "names no number of chips; write v5e:16x16"),
    ],
)
def test_another_name_is_refused_with_one_that_is_right(name, said):
    with pytest.raises(UserError) as refused:
        topology.parse(name)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_run_is_refused_on_other_devices_than_it_is_meant_for():
    with pytest.raises(UserError) as refused:
        mesh.make(runtime.Mesh(topology="h100:8"))
    assert str(refused.value) == (
        "mesh.topology: h100:8 is 8 x NVIDIA H100; here are 8 x cpu "
        "(--dry_run lays the step out without them)"
    )
    with pytest.raises(UserError, match="is 4 x cpu; here are 8 x cpu"):
        mesh.make(runtime.Mesh(topology="cpu:4"))


def test_a_run_goes_on_where_they_are():
    assert mesh.make(runtime.Mesh(topology="cpu:8")).size == 8


class Device:
    def __init__(self, device_kind):
        self.device_kind = device_kind


@pytest.mark.parametrize(
    ("kind", "memory"),
    [
        ("NVIDIA H100 80GB HBM3", 80 * 10**9),
        ("NVIDIA A100-SXM4-40GB", 40 * 10**9),
        ("NVIDIA A100-SXM4-80GB", 80 * 10**9),
        ("TPU v5 lite", 16 * 2**30),
        ("TPU v5", 95 * 2**30),
    ],
)
def test_the_memory_of_a_device_is_that_of_its_chip(kind, memory):
    assert topology.chip_of(Device(kind)).memory == memory


def test_an_unknown_device_is_no_chip():
    assert topology.chip_of(Device("abacus")) is None


@pytest.mark.parametrize("name", sorted(set(topology.CHIPS) - {"cpu"}))
def test_every_chip_has_memory_and_a_peak(name):
    chip = topology.CHIPS[name]
    assert chip.memory > 0 and flops.peak_of_kind(chip.kind)


def test_without_a_name_the_devices_are_those_at_hand():
    planned = topology.planned("")
    assert list(planned.devices) == jax.devices() and not planned.caveat


def test_what_is_not_here_is_faked_by_the_cpu_and_said_so():
    planned = topology.planned("h100:8")
    assert len(planned.devices) == 8
    assert planned.caveat.startswith("faked by the CPU: partitioned for 8 devices, ")


def test_a_cpu_that_is_split_already_is_said_so():
    with pytest.raises(UserError, match="wants 64 devices of the CPU, which is split"):
        topology.planned("h100:64")


def test_without_libtpu_a_tpu_is_faked_with_a_word_on_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    planned = topology.planned("v5e:2x4")
    assert len(planned.devices) == 8
    assert "pip install -e '.[tpu]'" in planned.caveat


def test_a_fresh_process_is_split_into_as_many():
    source = (
        "from runner import runtime\n"
        "from runner.machine import mesh, topology\n"
        "planned = topology.planned('h100:64')\n"
        "made = mesh.over(runtime.Mesh(fsdp=16), planned.devices)\n"
        "print(made.size, *made.devices.shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout == "64 4 16 1 1\n"


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs pip install -e '.[tpu]'"
)
def test_libtpu_describes_its_own():
    assert topology.planned("v5e:2x4").devices[0].device_kind == "TPU v5 lite"
    with pytest.raises(UserError, match=r"mesh\.topology: v5e:3x3: "):
        topology.planned("v5e:3x3")
