"""Published models as nodes of a graph."""

import functools
from collections.abc import Mapping
from typing import Any

import fiddle as fdl
from fiddle.experimental.auto_config import auto_unconfig

from models.pretrained.checkpoint import open_model


@auto_unconfig
def student(path: str, settings: Mapping[str, Any] | None = None) -> Any:
    """Return the model that published files describe, every field set, for a graph.

    The fields stand in the graph, not the path: any of them can be changed
    (`--fdl.student.num_layers=15`), and a saved graph needs no file.

    Args:
      path: as in `open_model`; only headers are read.
      settings: as in `open_model`.

    Raises:
      ValueError: as `open_model`.
    """
    return _node(open_model(path, settings=settings).model)


def _node(value: Any) -> Any:
    if not isinstance(value, functools.partial):
        return value
    fields = {name: _node(field) for name, field in value.keywords.items()}
    return fdl.Partial(value.func, *value.args, **fields)
