"""Classes and functions by the name a reader would import them under."""

import sys
from typing import Any

FILE_PREFIX = "file:"  # modules that were loaded by path: see `runner.graph.source`
_JAX = ("jax.nn", "jax.nn.initializers", "jax.numpy")  # they export jax._src


def public(value: Any) -> str:
    """`optax.adamw`, not `optax._src.alias.adamw`: the shortest true dotted name.

    What a configuration file defines is `moe.py:name`, wherever the file stands.
    """
    module = getattr(value, "__module__", None) or type(value).__module__
    name = getattr(value, "__qualname__", None) or getattr(
        value, "__name__", type(value).__qualname__
    )
    if module.startswith(FILE_PREFIX):
        return f"{module.rpartition('/')[2]}:{name}"
    package, symbol = where(value, module, name)
    return symbol if package == "builtins" else f"{package}.{symbol}"


def where(value: Any, module: str, name: str) -> tuple[str, str]:
    """The outermost package of `module` that exports `value`, and its name there."""
    parts = module.split(".")
    packages = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    for package in [*packages, *(_JAX if parts[0] == "jax" else ())]:
        if getattr(sys.modules.get(package), name, None) is value:
            return package, name
    return module, name
