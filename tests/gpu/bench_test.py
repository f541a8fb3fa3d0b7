"""The table of a GPU comes out on a CPU, small."""

import os
import subprocess
import sys

import pytest

from tests.gpu.bench import ROOT

NO_TORCH = "not run: no Python with torch was named"


@pytest.mark.slow
def test_rows_run_but_for_torch():
    script = [sys.executable, "tests/gpu/bench.py", "--tiny", "--torch=none", "--only"]
    result = subprocess.run(
        [*script, "head", "offline"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 4, result.stdout  # three block sizes of the head
    for row in rows:
        assert "not run" not in row.replace(NO_TORCH, ""), row
