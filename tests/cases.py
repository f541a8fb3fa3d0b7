"""Cases of a table, of which `make test` runs some and `make test-all` the others."""

from collections.abc import Mapping
from typing import Any

import pytest


def cases(table: Mapping[str, Any], *, fast: tuple[str, ...]) -> list:
    """Parameters named as in `table`; those that are not `fast` are slow."""
    assert set(fast) <= table.keys()
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            id=name,
            marks=() if name in fast else pytest.mark.slow,
        )
        for name, value in table.items()
    ]
