"""Libraries that only some formats of files need."""

import importlib
from pathlib import Path
from typing import Any

from runner.errors import UserError

# By module: the library, and the extra of the project that brings it.
_EXTRAS = {
    "pyarrow": ("pyarrow", "parquet"),
    "pyarrow.parquet": ("pyarrow", "parquet"),
    "zstandard": ("zstandard", "zstd"),
}


def require(module: str, *, path: Path) -> Any:
    """Return an optional module that the file `path` is read by.

    Raises:
      UserError: It is not installed; with the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        library, extra = _EXTRAS[module]
        raise UserError(
            f"{path} needs the library {library} (the extra {extra!r}): "
            f"pip install {library}"
        ) from None
