"""Every sweep of `configs/`: each point changes exactly the lines that it names."""

from pathlib import Path

import pytest

from runner.cli import flags
from runner.graph import describe, read
from runner.sweeps import plan

CONFIGS = Path(__file__).parents[2] / "configs"
SWEEPS = [("moe_zloss", "lr")]


def planned(config, sweep):
    path = str(CONFIGS / f"{config}.py")
    command = flags.parse(
        [f"--fdl_config={path}", f"--sweep={sweep}", "--print_config"]
    )
    return describe.lines(read.read(path)[0]), plan.make(command).units


@pytest.mark.parametrize(("config", "sweep"), SWEEPS)
def test_a_point_changes_exactly_the_lines_it_names(config, sweep):
    before, units = planned(config, sweep)
    for unit in units:
        wanted = []
        for path, value in sorted(
            (key.removeprefix("fdl."), repr(x)) for key, x in unit.point.items()
        ):
            if before[path] != value:
                wanted += [f"- {path}: {before[path]}", f"+ {path}: {value}"]
        assert list(unit.changes) == wanted


def test_moe_zloss_sweeps_three_learning_rates_by_two_weights():
    _, units = planned("moe_zloss", "lr")
    assert [unit.label for unit in units] == [
        "peak_value=0.001 z_loss.weight=0.0",
        "peak_value=0.001 z_loss.weight=0.0001",
        "peak_value=0.005 z_loss.weight=0.0",
        "peak_value=0.005 z_loss.weight=0.0001",
        "peak_value=0.02 z_loss.weight=0.0",
        "peak_value=0.02 z_loss.weight=0.0001",
    ]
