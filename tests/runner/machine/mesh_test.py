from pathlib import Path

import jax
import pytest

from runner import main, runtime
from runner.errors import UserError
from runner.machine import mesh


def test_one_axis_takes_the_devices_that_are_left():
    assert mesh.sizes(runtime.Mesh(tensor=2, expert=2), 8) == (2, 1, 2, 2)


@pytest.mark.parametrize(
    "config",
    [
        runtime.Mesh(data=3),
        runtime.Mesh(data=4, fsdp=4),
        runtime.Mesh(data=-1, tensor=3),
        runtime.Mesh(data=-1, fsdp=-1),
        runtime.Mesh(data=0),
        runtime.Mesh(data=-2),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(config):
    with pytest.raises(UserError, match=rf"mesh\.data={config.data}, "):
        mesh.sizes(config, 8)


def test_the_batch_is_cut_over_data_fsdp_and_expert():
    made = mesh.make(runtime.Mesh(data=2, fsdp=2, tensor=1, expert=2))
    assert mesh.batch_shards(made) == 8
    assert mesh.batch_sharding(made).shard_shape((16, 3)) == (2, 3)


def test_every_axis_is_there_on_one_device():
    assert mesh.sizes(runtime.Mesh(), 1) == (1, 1, 1, 1)
    assert set(mesh.AXES) == {"data", "fsdp", "tensor", "expert"}
    assert jax.device_count() == 8


def test_a_mesh_that_does_not_fit_leaves_no_work_directory(tmp_path, capsys):
    workdir = tmp_path / "run"
    config = Path(__file__).parents[3] / "configs" / "moe.py"
    argv = ["runner", f"--fdl_config={config}", f"--workdir={workdir}"]
    assert main.main([*argv, "--gin.mesh.data=3"]) == 2
    assert "does not multiply to the 8 devices here" in capsys.readouterr().err
    assert not workdir.exists()
