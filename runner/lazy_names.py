"""Package names that are imported at first use.

So `runner --help`, and mistakes on the command line, are answered before jax is there.
Type checkers read the stub `__init__.pyi` beside such a package.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def attach(
    package: str, homes: Mapping[str, str], renamed: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], list[str]]:
    """Return the `__getattr__` and the `__all__` of a package.

    Args:
      package: the package's `__name__`.
      homes: by exported name, the module below `package` that defines it. A name that
        is its own home is a module.
      renamed: today's name by the one it had before, kept for one release.
    """
    old_names = renamed or {}

    def get(name: str) -> Any:
        if name in old_names:
            new = old_names[name]
            warnings.warn(
                f"{package}.{name} is now {package}.{new}",
                DeprecationWarning,
                stacklevel=2,
            )
            return get(new)
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module = importlib.import_module(f"{package}.{homes[name]}")
        return module if homes[name] == name else getattr(module, name)

    return get, sorted(homes)
