"""A step rule in a run: from the command line, logged, and on resume."""

import json

import pytest

from runner import main

RULED = (
    "--fdl.optimizer=runner.step_rules.ruled(runner.optimizers.adamw(10.0), "
    "{'radius': runner.step_rules.ConvergenceRadius(rows=8)})"
)
FLAGS = ["--fdl.num_steps=4", "--fdl.batch_size=16", "--gin.loop.log_every=1"]


def radius(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [
        (x["optimizer/radius/ratio"], x["optimizer/radius/scale"])
        for x in lines
        if "learning/total" in x
    ]


@pytest.mark.slow
def test_a_rule_shortens_the_steps_of_a_run_and_its_graph_is_read_again(tmp_path):
    # dear: a whole run, compiled as a user would.
    config, whole = "--fdl_config=configs/vision_digits.py", tmp_path / "whole"
    command = ["runner", config, *FLAGS, RULED]
    assert main.main([*command, f"--workdir={whole}"]) == 0
    steps = radius(whole)
    assert len(steps) == 4
    for ratio, scale in steps:
        assert scale == pytest.approx(min(1.0, 1.0 / ratio), rel=1e-5)
    assert min(scale for _, scale in steps) < 0.5
    # A graph that is read from the work directory may name it too.
    assert main.main(["runner", f"--workdir={whole}"]) == 0
