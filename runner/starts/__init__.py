"""Starts: where a student's weights come from.

A node of the graph (`Start`) is declared for free, and `load`ed against a student
before its first step. A run that goes on reads its own checkpoint, and no start.
"""

from runner import lazy_names

_HOMES = {
    "Adapter": "adapter",
    "ClassSums": "from_features",
    "Continued": "continued",
    "FromTeacher": "from_teacher",
    "LoadedStart": "base",
    "NaiveBayes": "from_features",
    "Only": "only",
    "Published": "published",
    "Run": "run",
    "Start": "base",
    "StartContext": "base",
    "Upcycled": "upcycled",
}
_RENAMED: dict[str, str] = {}

__getattr__, __all__ = lazy_names.attach(__name__, _HOMES, _RENAMED)
