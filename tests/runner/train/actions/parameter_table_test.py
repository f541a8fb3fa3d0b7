"""The table of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from runner.train.actions import parameter_table as module
from runner.train.actions.parameter_table import parameter_table, write_parameters


def test_the_parameter_table_is_sorted_summed_and_shows_shardings(tmp_path):
    mesh = jax.make_mesh(
        (4, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )

    def put(value, *spec):
        return jax.device_put(value, NamedSharding(mesh, PartitionSpec(*spec)))

    parameters = {
        "layers": {
            10: {"kernel": put(jnp.ones((4, 8), jnp.bfloat16), None, "fsdp")},
            2: {"kernel": put(jnp.zeros((8, 2)), ("data", "fsdp"))},
        },
        "embedding": put(jnp.arange(4.0)),
    }
    table = write_parameters(parameters, tmp_path / "parameters.txt")
    assert (tmp_path / "parameters.txt").read_text() == table + "\n"
    cells = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in table.splitlines()
        if row.startswith("|")
    ]
    assert cells == [
        ["Name", "Shape", "Dtype", "Size", "Sharding", "Mean", "Std"],
        ["embedding", "(4,)", "float32", "4", "", "1.5", "1.12"],
        ["layers/2/kernel", "(8, 2)", "float32", "16", "data+fsdp", "0.0", "0.0"],
        ["layers/10/kernel", "(4, 8)", "bfloat16", "32", "-, fsdp", "1.0", "0.0"],
    ]
    assert table.endswith("Total: 52 parameters, 144 bytes")


def test_no_parameters_make_an_empty_table():
    assert "Total: 0 parameters, 0 bytes" in parameter_table({})


def test_moments_are_the_same_on_the_host_and_on_devices():
    arrays = [jnp.arange(24.0).reshape(4, 6), 3 + jnp.arange(5, dtype=jnp.bfloat16)]
    of_host = np.array(module._moments(arrays))
    np.testing.assert_allclose(of_host, module._moments_on_devices(arrays), rtol=1e-6)
