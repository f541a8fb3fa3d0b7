"""Running state: the same run however its steps are cut."""

import json

import numpy as np
import pytest

from runner import main

COMMAND = [
    "runner",
    "--fdl_config=configs/vision_digits.py",
    "--fiddler=ghosts(8)",
    "--fdl.num_steps=4",
    "--fdl.optimizer.optimizer.learning_rate.warmup_steps=1",
    "--fdl.optimizer.optimizer.learning_rate.peak_value=0.5",
    "--gin.loop.log_every=1",
]
CUT = [
    "--gin.step.microbatches=2",
    "--gin.mesh.data=2",
    "--gin.mesh.tensor=4",
    "--fdl.evaluations.held_out.batch_size=24",  # it reads the running state
]
READ = ("learning/ce", "optimizer/start/distance", "held_out/loss")


def numbers(workdir, *cut):
    """By step, what a run says of its losses, its weights and, evaluated, its state."""
    assert main.main([*COMMAND, f"--workdir={workdir}", *cut]) == 0
    text = (workdir / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [line[name] for line in lines for name in READ if name in line]


@pytest.mark.slow
def test_running_state_does_not_depend_on_microbatches_or_the_mesh(tmp_path):
    # dear: two whole runs, compiled as a user would.
    whole = numbers(tmp_path / "whole")
    cut = numbers(tmp_path / "cut", *CUT)
    assert len(whole) == 10  # held out before the first step and after the last
    np.testing.assert_allclose(cut, whole, rtol=1e-4)
    distances = whole[2:9:2]
    assert distances == sorted(distances)
    assert distances[-1] > 0
