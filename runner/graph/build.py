"""Objects out of a graph, with the place of whatever fails."""

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fiddle as fdl
from fiddle import daglish
from flax import nnx

from runner.errors import UserError, nearest
from runner.files import remote
from runner.graph import nodes, paths
from runner.graph.describe import ROOT
from runner.graph.job import Checked, Job
from runner.graph.names import public


def job(cfg: fdl.Buildable, *, dry: bool = False, resumed: bool = False) -> Job:
    """Build a graph whose root is a job.

    Args:
      cfg: the graph.
      dry: only shapes will be asked for, so files may be missing.
      resumed: the run goes on from its own checkpoint.

    Raises:
      UserError: see `objects`; or the root is no job.
    """
    root = objects(cfg, dry=dry, resumed=resumed)
    if not isinstance(root, Job):
        raise _error_at(cfg, "", f"makes {public(type(root))}, which is no runner job")
    return root


def objects(cfg: fdl.Buildable, *, dry: bool = False, resumed: bool = False) -> Any:
    """Construct and check every node; no data is read, no device touched.

    Models are constructed in the abstract, so that one that cannot be is found here.

    Args:
      cfg: the graph.
      dry: call `check_shapes()` of the objects in place of `check()`.
      resumed: call `check_resumed()` in its place.

    Returns:
      The root object.

    Raises:
      UserError: a field is missing or unknown, a text is the address of an object
        store, a constructor refuses a value (`ValueError`), or an object's check does;
        with the path of the node.
    """
    # Names of fields first: fiddle would report them from inside a constructor.
    places = [
        (node, daglish.path_str(path).removeprefix("."))
        for node, path in daglish.iterate(cfg)
        if isinstance(node, fdl.Buildable)
    ]
    for node, path in places:
        _refuse_names(node, path)
    for value, path in daglish.iterate(cfg):
        remote.refuse(daglish.path_str(path).removeprefix("."), value)
    # Constructors, which refuse single values.
    try:
        built = fdl.build(cfg)
    except Exception as error:  # of anybody's class, on values of a file
        raise _error_with_path(cfg, error) from error
    # Models and checks, which see how the values fit each other.
    for node, path in places:
        _construct_model(node, path)
    _check(built, "check_shapes" if dry else "check_resumed" if resumed else "check")
    return built


def _refuse_names(node: fdl.Buildable, path: str) -> None:
    """Refuse missing and unknown fields, which fiddle leaves to the call."""
    takes = nodes.parameters(fdl.get_callable(node))
    keywords = [key for key in node.__arguments__ if isinstance(key, str)]
    unknown = [key for key in keywords if key not in takes]
    kinds = {parameter.kind for parameter in takes.values()}
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        raise _error_at(
            node, path, f"no field '{unknown[0]}'{nearest(unknown[0], takes)}"
        )
    if isinstance(node, fdl.Config) and (missing := _missing(node)):
        raise _error_at(node, path, f"{', '.join(missing)} must be given")


def _construct_model(node: fdl.Buildable, path: str) -> None:
    """Construct what lacks only its random keys, without arrays."""
    if not isinstance(node, fdl.Partial) or _missing(node) != ["rngs"]:
        return
    try:
        nnx.eval_shape(lambda: fdl.build(node)(rngs=nnx.Rngs(0)))
    except Exception as error:
        raise _error_at(node, path, _message(error)) from error


def _missing(node: fdl.Buildable) -> list[str]:
    fields = nodes.children(node) or {}
    return [str(key) for key, child in fields.items() if child.value is nodes.UNSET]


def _error_at(node: Any, path: str, message: str) -> UserError:
    return UserError(f"{path or ROOT} ({nodes.kind_of(node)}): {message}")


def _error_with_path(cfg: fdl.Buildable, error: Exception) -> UserError:
    """Return the constructor's message, preceded by the path that fiddle appends."""
    _, _, context = str(error).partition("\n\nFiddle context: ")
    where = re.search(r" at <root>(\S*) with positional", context)
    message = _message(error)
    if not where:
        return UserError(message)
    path = where[1].removeprefix(".")
    place = paths.find(cfg, path) if path else paths.Place("", cfg, Any)
    return _error_at(place.value, place.path, message)


def _message(error: Exception) -> str:
    """Return what a constructor says, with the type and place of the unforeseen."""
    text = " ".join(str(error).partition("\n\nFiddle context: ")[0].split())
    if isinstance(error, (ValueError, UserError)):
        return text
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__}: {text} ({place})"


def _check(built: Any, method: str) -> None:
    for path, value in _walk(built, ""):
        if isinstance(value, Checked):
            try:
                getattr(value, method)()
            except (UserError, ValueError) as error:
                raise UserError(f"{path or ROOT}: {error}") from error


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not nodes.is_node(value) and not isinstance(value, (list, tuple, Mapping)):
        return
    yield path.removeprefix("."), value
    for key, child in (nodes.children(value) or {}).items():
        yield from _walk(child.value, path + paths.segment(value, key))
