"""What one config changes of another, exactly."""

from pathlib import Path

import pytest

from runner.graph import base, describe

CONFIGS = Path(__file__).parents[2] / "configs"


def changes(old, new):
    """Lines from `configs/old.py` to `configs/new.py`."""
    paths = [CONFIGS / f"{name}.py" for name in (old, new)]
    if not all(path.exists() for path in paths):
        pytest.skip("not there yet")
    old_text, new_text = (describe.text(base.read(str(path))[0]) for path in paths)
    return describe.changes(old_text, new_text)
