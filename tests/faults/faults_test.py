"""Faults still fit the code that they break; `make faults` shows they are caught."""

import re
from pathlib import Path

from tests.faults.fault import read_all

ROOT = Path(__file__).resolve().parents[2]


def test_there_are_24_and_each_still_applies():
    faults = read_all()
    assert len(faults) >= 24
    for fault in faults:
        text = (ROOT / fault.file).read_text()
        assert fault.apply(text) != text


def test_each_names_tests_that_are_there():
    for fault in read_all():
        assert fault.tests, fault.name
        for test in fault.tests:
            file, _, name = test.partition("::")
            function = re.escape(name.partition("[")[0])
            source = (ROOT / file).read_text()
            assert re.search(rf"^def {function}\(", source, re.M), test
