"""Fiddle without libcst, whose import is 0.2 s of CPU: a sixth of jax's and flax's.

Fiddle wants it to find the source of `auto_config(lambda: ...)`, and nothing here puts
`auto_config` on a lambda (one could not be saved). Who imports libcst later gets it.
"""

import importlib
import sys
import types
from typing import NoReturn


def import_fiddle() -> None:
    """Import fiddle, with a stand-in for libcst unless that is there already."""
    if "libcst" in sys.modules or "fiddle" in sys.modules:
        return
    stand_in = types.ModuleType("libcst")
    vars(stand_in).update(
        CSTVisitor=object,
        metadata=types.SimpleNamespace(PositionProvider=None),
        parse_module=_refuse_lambda,
    )
    sys.modules["libcst"] = stand_in
    try:
        importlib.import_module("fiddle.experimental.auto_config")
    finally:
        del sys.modules["libcst"]


def _refuse_lambda(source: str) -> NoReturn:
    raise NotImplementedError("@auto_config wants a function with a name, not a lambda")
