"""Stand-in modules for packages that a peer imports and its loss never calls.

A peer's loss is a page that imports its whole trainer: checkpoints, tokenizers, cloud
storage, a profiler. Those are gigabytes; whatever is not installed is stood in for. A
loss that did reach one of them would compute with a mock, and differ from float64.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from unittest.mock import MagicMock

PACKAGES = frozenset(
    {
        "PIL",
        "aqt",
        "drjax",
        "grain",
        "huggingface_hub",
        "jinja2",
        "metrax",
        "pandas",
        "pathwaysutils",
        "perfetto",
        "sentencepiece",
        "tensorflow",
        "transformers",
        "xprof",
    }
)


def install() -> None:
    """Make `import` fall back on stand-ins, after every real finder."""
    sys.meta_path.append(_Finder())


class _StandIn(types.ModuleType):
    __path__: Sequence[str] = ()
    __version__ = "0"

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):
        del path, target
        if fullname.partition(".")[0] in PACKAGES:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        return _StandIn(spec.name)

    def exec_module(self, module):
        del module
