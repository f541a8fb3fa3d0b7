"""Values of flags that are more than literals: calls of allowed names, as nodes.

`losses.ForwardKL(temperature=2.0)` is the node that a config file would make of it, and
a name alone is the function or class. Text is parsed, never evaluated: nothing is
called here but functions under `@auto_config`, which are graphs themselves.
"""

import ast
import functools
import inspect
from typing import Any

import fiddle as fdl

from runner.errors import UserError, nearest
from runner.graph import fitting, literals, nodes
from runner.graph.literals import Mismatch
from runner.graph.names import public
from runner.graph.namespace import Namespace

_CONTAINERS = {ast.List: list, ast.Tuple: tuple, ast.Set: set}


def read(text: str, hint: Any, namespace: Namespace) -> Any:
    """Return the value that `text` spells: a literal, text, a name, or a call.

    Args:
      text: as typed. In quotes it is text, and an expression where no text may stand.
      hint: the type that the value is held against.
      namespace: the names that it may use.

    Raises:
      Mismatch: it is of another type.
      UserError: it names what there is not, or what a graph may not hold.
    """
    tree = _parse(text)
    if tree is not None and _is_expression(tree, hint, namespace):
        return _Reader(namespace).value(tree, hint)
    try:
        return literals.read(text, hint)
    except Mismatch:
        if not isinstance(tree, ast.Constant) or not isinstance(tree.value, str):
            raise
        inner = _parse(tree.value)
        if inner is None or not _is_expression(inner, hint, namespace):
            raise
    return _Reader(namespace).value(inner, hint)


def _parse(text: str) -> ast.expr | None:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_expression(tree: ast.expr, hint: Any, namespace: Namespace) -> bool:
    """Return True if text is to be read as an expression, not as a literal or itself.

    A word, a file name and what merely looks like a call stay text where a field takes
    text; a field of any type takes a call as a call.
    """
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    roots = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    is_known = any(namespace.knows(root) for root in roots)
    if fitting.takes_anything(hint):
        return bool(calls) or (is_known and isinstance(tree, ast.Attribute))
    if fitting.takes_text(hint):
        return bool(calls) and is_known and fitting.takes_objects(hint)
    return bool(calls) or (is_known and fitting.takes_objects(hint))


class _Reader:
    def __init__(self, namespace: Namespace):
        self.namespace = namespace

    def value(self, tree: ast.expr, hint: Any) -> Any:
        match tree:
            case ast.Call():
                return fitting.node(self.call(tree), hint)
            case ast.Name() | ast.Attribute():
                if isinstance(tree, ast.Name) and not self.namespace.knows(tree.id):
                    return literals.read(tree.id, hint)  # `inf`, or a mistake
                return fitting.named(self.namespace.resolve(_dotted(tree)), hint)
            case ast.List() | ast.Tuple() | ast.Set():
                inner = nodes.item_hint(hint)
                items = [self.value(item, inner) for item in tree.elts]
                return fitting.container(_CONTAINERS[type(tree)](items), hint)
            case ast.Dict():
                inner = nodes.item_hint(hint)
                pairs = zip(tree.keys, tree.values, strict=True)
                items = {_literal(k): self.value(v, inner) for k, v in pairs}
                return fitting.container(items, hint)
        return literals.fit(_literal(tree), hint)

    def call(self, tree: ast.Call) -> Any:
        """Return the node of a call; a partial one of what lacks random keys."""
        name = _dotted(tree.func)
        function = self.namespace.resolve(name)
        arguments, partial = list(tree.args), function is functools.partial
        if partial:
            if not arguments:
                raise UserError(f"{name} needs a function or class")
            function = self.namespace.resolve(_dotted(arguments.pop(0)))
        if not callable(function):
            raise UserError(f"{name} can not be called")
        try:
            args, kwargs = self._arguments(function, arguments, tree.keywords)
        except Mismatch as error:
            raise UserError(f"{name}: {error}") from None
        if hasattr(function, "as_buildable"):
            return _graph_of(function, name, args, kwargs)
        lacking = [
            key
            for key, parameter in nodes.parameters(function).items()
            if parameter.default is parameter.empty and key not in kwargs
        ]
        kind = fdl.Partial if partial or "rngs" in lacking else fdl.Config
        return kind(function, *args, **kwargs)

    def _arguments(
        self, function: Any, positional: list[ast.expr], keywords: list[ast.keyword]
    ) -> tuple[list[Any], dict[str, Any]]:
        takes = nodes.parameters(function)
        fields = nodes.fields(function)
        hints = {str(key): child.hint for key, child in fields.items()}
        kinds = {parameter.kind: key for key, parameter in takes.items()}
        # By position: under their names where they have one.
        names = [
            key
            for key, parameter in takes.items()
            if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        rest = positional[len(names) :]
        if rest and inspect.Parameter.VAR_POSITIONAL not in kinds:
            raise Mismatch(
                f"takes {len(names)} arguments by position, got {len(positional)}"
            )
        if rest:
            args = [self.value(item, Any) for item in positional]
            kwargs = {}
        else:
            args = []
            kwargs = {
                key: self._argument(key, item, hints.get(key, Any))
                for key, item in zip(names, positional, strict=False)
            }
        # By name.
        for word in keywords:
            if word.arg is None:
                raise Mismatch("** is not read; write the arguments out")
            if word.arg in kwargs:
                raise Mismatch(f"the argument {word.arg} is there twice")
            if word.arg not in hints and inspect.Parameter.VAR_KEYWORD not in kinds:
                raise Mismatch(f"no field '{word.arg}'{nearest(word.arg, hints)}")
            hint = hints.get(word.arg, Any)
            kwargs[word.arg] = self._argument(word.arg, word.value, hint)
        return args, kwargs

    def _argument(self, name: str, tree: ast.expr, hint: Any) -> Any:
        try:
            return self.value(tree, hint)
        except Mismatch as error:
            raise Mismatch(f"{name}: {error}") from None


def _dotted(tree: ast.expr) -> str:
    if isinstance(tree, ast.Name):
        return tree.id
    if isinstance(tree, ast.Attribute):
        return f"{_dotted(tree.value)}.{tree.attr}"
    raise UserError(f"expected a name such as losses.ZLoss, got {ast.unparse(tree)}")


def _literal(tree: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(tree) if tree is not None else {}[None]
    except (ValueError, KeyError):
        text = "**" if tree is None else ast.unparse(tree)
        raise UserError(
            f"expected literals, names and calls of names, got {text}"
        ) from None


def _graph_of(function: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise UserError(f"{name}: {error}") from None
    graph = function.as_buildable(*args, **kwargs)
    if not isinstance(graph, fdl.Buildable):
        raise UserError(f"{name} makes {public(type(graph))}, which is no node")
    return graph
