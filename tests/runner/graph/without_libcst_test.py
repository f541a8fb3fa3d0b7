"""Fiddle without libcst."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def child(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_libcst_is_not_imported_and_can_be_later():
    finished = child(
        "import sys, runner.graph, fiddle.experimental.auto_config\n"
        "assert 'libcst' not in sys.modules\n"
        "import libcst; libcst.parse_module('x = 1')\n"
        "from fiddle.codegen import codegen"
    )
    assert (finished.returncode, finished.stderr) == (0, "")


def test_libcst_and_fiddle_are_left_alone_once_imported():
    finished = child(
        "import libcst, runner.graph, sys\nassert sys.modules['libcst'] is libcst"
    )
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_lambda_is_refused_in_words():
    finished = child(
        "import runner.graph\n"
        "from fiddle.experimental.auto_config import auto_config\n"
        "auto_config(lambda: dict())"
    )
    assert "wants a function with a name" in finished.stderr.splitlines()[-1]
