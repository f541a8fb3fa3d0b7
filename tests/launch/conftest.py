"""The switch that rewrites goldens: `pytest tests/launch --rewrite_goldens`."""

import contextlib


def pytest_addoption(parser):
    # `tests/configs` has the same switch, and may be asked for beside this folder.
    with contextlib.suppress(ValueError):
        parser.addoption(
            "--rewrite_goldens",
            action="store_true",
            help="write tests/golden/*.txt from configs/*.py instead of comparing",
        )
