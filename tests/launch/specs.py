"""Specs made by hand: two units of a sweep on a shared file system."""

from pathlib import Path

from launch.spec import Spec
from runner.sweeps import Unit

SWEEP = Path("/shared/runs/lr")


def unit(number, value, *, sweep=SWEEP):
    name = f"{number:02d}-peak_value={value}"
    return Unit(
        name=name,
        path=sweep / "units" / name,
        point={"fdl.optimizer.learning_rate.peak_value": value},
        label=f"peak_value={value}",
    )


def spec(**changes):
    changes.setdefault("units", (unit(0, 0.001), unit(1, 0.01)))
    return Spec(
        **{
            "name": "Moe_zloss lr",
            "path": SWEEP,
            "directory": Path("/shared/retort"),
            "python": "/opt/retort/bin/python",
            **changes,
        }
    )
