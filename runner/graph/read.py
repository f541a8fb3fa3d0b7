"""The graph that a command starts from: a config file's, or a saved one."""

import types

import fiddle as fdl

from runner.errors import UserError
from runner.graph import source


def read(spec: str) -> tuple[fdl.Buildable, types.ModuleType | None]:
    """Read a graph from a config file or a saved one.

    Args:
      spec: `path.py`, `path.py:function`, `path.py:function(num_steps=5)` or
        `path.json`.

    Returns:
      The graph, and the module of the config file, which may define fiddlers.

    Raises:
      UserError: there is no such file or function, or it makes no graph.
    """
    path, expression = source.split(spec)
    if path.endswith(".json"):
        from runner.graph import to_json

        return to_json.load(path), None
    module = source.load(path)
    call = source.Call.parse(expression or "config")
    function = source.find(module, call.name, what="function")
    cfg = source.call(module, function, call=call)
    if not isinstance(cfg, fdl.Buildable):
        raise UserError(
            f"{path}: {call.name}() made {type(cfg).__name__}, not a graph; "
            "decorate it with @auto_config"
        )
    return cfg, module
