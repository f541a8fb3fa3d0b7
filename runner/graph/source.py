"""Configuration files: Python loaded by path, their functions called by expression.

`configs/moe.py` stands for its function `config`; `configs/moe.py:tiny` for another;
`configs/moe.py:tiny(num_steps=5)` gives it literal arguments. `retort:moe` is
`configs/moe.py` of this installation, wherever a command stands.
"""

import ast
import dataclasses
import importlib.util
import inspect
import pathlib
import re
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any

from runner.errors import UserError, nearest
from runner.files import installed, trusted
from runner.graph.names import FILE_PREFIX


@dataclasses.dataclass(frozen=True)
class Call:
    """`name(*args, **kwargs)`, the arguments literal."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Call":
        """Parse `name` or `name(1, two='x')`.

        Raises:
          UserError: it is neither, or an argument is not a literal.
        """
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            node = None
        if isinstance(node, ast.Name):
            return cls(node.id)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise UserError(f"expected name or name(key=value, ...), got {text!r}")
        names = [word.arg or "**" for word in node.keywords]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{node.func.id}: the argument {name} is there twice")
        return cls(
            node.func.id,
            tuple(_literal(argument) for argument in node.args),
            {word.arg or "**": _literal(word.value) for word in node.keywords},
        )


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise UserError(
            f"expected a literal argument (number, string, list ...), "
            f"got {ast.unparse(node)}"
        ) from None


def split(spec: str) -> tuple[str, str]:
    """Split `path.py:call` into `path.py` and `call`; `""` without a call.

    Raises:
      UserError: a config of this installation is named that there is not.
    """
    if spec.startswith(installed.PREFIX):
        name, _, call = spec.removeprefix(installed.PREFIX).partition(":")
        return str(installed.find(f"{name}.py")), call
    # No path in quotes: an argument may be an address with a port.
    match = re.fullmatch(r"""([^"']*?\.\w+):(.*)""", spec, re.DOTALL)
    return (match[1], match[2]) if match else (spec, "")


def load(path: str) -> types.ModuleType:
    """Return the module at `path`, executed once a process.

    Modules beside it can be imported; they hide no installed one.

    Raises:
      UserError: no such file, not Python, or it fails; with file and line.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        raise UserError(f"{path}: a directory, not a file")
    if not file.is_file():
        raise UserError(f"{path}: no such file{_neighbour(file)}")
    if file.suffix != ".py":
        raise UserError(f"{path}: expected a Python file (.py)")
    name = FILE_PREFIX + str(file.resolve())
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it runs
    trusted.import_from([str(file.resolve().parent)])
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise failure(path, error) from error
    return module


def call(module: types.ModuleType, function: Callable, *before: Any, call: Call) -> Any:
    """Return `function(*before, *call.args, **call.kwargs)`, or its graph.

    A function under `@auto_config` is not called: its graph is returned.

    Raises:
      UserError: the arguments do not fit, or the function fails; with file and line.
    """
    signature = inspect.signature(function)
    try:
        signature.bind(*before, *call.args, **call.kwargs)
    except TypeError as error:
        takes = list(signature.parameters)[len(before) :]
        takes = ", ".join(takes) if takes else "no arguments"
        raise UserError(f"{call.name}: {error}; it takes {takes}") from None
    function = getattr(function, "as_buildable", function)
    try:
        return function(*before, *call.args, **call.kwargs)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise failure(str(module.__file__), error) from error


def find(module: types.ModuleType, name: str, *, what: str) -> Callable:
    """Return the function `name` of a configuration file.

    Raises:
      UserError: it has none; the message has the nearest name.
    """
    value = vars(module).get(name)
    if callable(value):
        return value
    own = [
        key
        for key, value in vars(module).items()
        if callable(value)
        and not key.startswith("_")
        and getattr(value, "__module__", module.__name__) == module.__name__
    ]
    raise UserError(
        f"{_relative(str(module.__file__))}: no {what} '{name}'{nearest(name, own)}"
    )


def failure(path: str, error: BaseException) -> UserError:
    """Return an error of a configuration file as `file:line: Type: message`."""
    if isinstance(error, SyntaxError) and error.filename:
        where, line = error.filename, error.lineno
        message = f"{error.msg}: {(error.text or '').strip()}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = str(pathlib.Path(path).resolve())
        inside = [f.lineno for f in frames if f.filename == own]
        where, line = path, inside[-1] if inside else None
        message = (str(error).strip() or "(no message)").splitlines()[0]
    place = f"{_relative(where)}:{line}" if line else _relative(where)
    return UserError(f"{place}: {type(error).__name__}: {message}")


def _relative(path: str) -> str:
    """Return `path` relative to the working directory, if below it."""
    file, here = pathlib.Path(path), pathlib.Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else path


def _neighbour(file: pathlib.Path) -> str:
    """Return a hint with the file names nearest to a missing file's."""
    if not file.parent.is_dir():
        return f" (nor a directory {file.parent})"
    beside = [p.name for p in file.parent.iterdir() if p.suffix == file.suffix]
    return nearest(file.name, beside) if beside else ""
