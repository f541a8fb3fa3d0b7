"""A run from the weights of another, killed before and after its first checkpoint."""

import pytest

from tests.runner.runs import Runner


@pytest.mark.slow
def test_kills_of_a_run_that_started_from_weights_change_nothing(tmp_path):
    runner = Runner(tmp_path, steps=10)
    runner.run("origin")
    start = f"--fiddler=start_from({str(tmp_path / 'origin')!r})"
    output = runner.run("whole", start)
    assert "loaded of" in output
    runner.killed("killed", start, step=2)  # before the first checkpoint
    runner.killed("killed", start, step=6)
    runner.run("killed", start)
    runner.assert_same_run("killed", "whole")
