"""The Jinja environment of chat templates, which are code from strangers.

That of `apply_chat_template` in transformers 4.57.6: the immutable sandbox,
`trim_blocks` and `lstrip_blocks`, loop controls, `tojson`, `raise_exception`,
`strftime_now` and the `generation` block. Beyond it, the work of a template is bounded:
turns of loops, calls, and the length of what it writes, adds and multiplies.
"""

import datetime
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jinja2
from jinja2 import ext, nodes, sandbox
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

_LONGEST = 10_000_000  # characters of a text, items of a list
_MOST_WORK = 500_000  # turns of loops and calls in one rendering
_WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(\d{5}|\*)")


class Environment(sandbox.ImmutableSandboxedEnvironment):
    """The sandbox of templates; renders one conversation at a time.

    Attributes:
      spans: Where `generation` blocks lie in the last rendering, (start, end).
      written: Characters rendered so far.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, date: datetime.date) -> None:
        """Make an environment in which it is the day `date`."""
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, ext.loopcontrols],
        )
        midnight = datetime.datetime.combine(date, datetime.time())
        self.filters |= {
            "tojson": _to_json,
            "counted": self._counted,
            "concatenated": _concatenated,
        }
        self.globals |= {
            "raise_exception": _raise_exception,
            "range": self._range,
            "strftime_now": midnight.strftime,
        }
        self.spans: list[tuple[int, int]] = []
        self.written = self._work = 0

    def compiled(self, source: str) -> jinja2.Template:
        """Return a template whose loops are counted and whose texts are bounded.

        Raises:
          jinja2.TemplateSyntaxError: It is no template.
        """
        tree = self.parse(source)
        for loop in tree.find_all(nodes.For):
            loop.iter = _filtered(loop.iter, "counted")
        code = self.compile(_Bounded().visit(tree))
        return jinja2.Template.from_code(self, code, self.make_globals(None))

    def render(self, template: jinja2.Template, variables: dict[str, Any]) -> str:
        """Return the text of a template, and leave its `generation` blocks in `spans`.

        Raises:
          jinja2.TemplateError: The template refuses, or does more than it may.
        """
        self.spans, self.written, self._work = [], 0, 0
        blocks = []
        for block in template.generate(**variables):
            blocks.append(block)
            self.written += len(block)
            _require_length(self.written)
        return "".join(blocks)

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls, and count it."""
        self._tick()
        for value in (*args, *kwargs.values()):
            if isinstance(value, int):
                _require_length(value)
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Return `left operator right`, unless it would be too long."""
        sizes = [_size(left), _size(right)]
        if operator == "+":
            _require_length(sum(size or 0 for size in sizes))
        elif operator == "*" and sizes != [None, None]:
            size, count = (
                (sizes[0], right) if sizes[0] is not None else (sizes[1], left)
            )
            _require_length((size or 0) * count if isinstance(count, int) else 0)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _require_length(left.bit_length() * right)
        elif operator == "%" and isinstance(left, str) and _WIDE_FORMAT.search(left):
            raise jinja2.TemplateError(f"the format {left!r} is too wide")
        return super().call_binop(context, operator, left, right)

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._tick()
            yield item

    def _range(self, *args: int) -> range:
        numbers = sandbox.safe_range(*args)
        self._tick(len(numbers))
        return numbers

    def _tick(self, count: int = 1) -> None:
        self._work += count
        if self._work > _MOST_WORK:
            raise jinja2.TemplateError(
                f"more than {_MOST_WORK:,} turns of loops and calls"
            )


class _Generation(ext.Extension):
    """`{% generation %}`: text that the assistant writes."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_mark")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        text = caller()
        environment: Any = self.environment
        start = environment.written
        environment.spans.append((start, start + len(text)))
        return text


class _Bounded(NodeTransformer):
    """Makes a filter of each `a ~ b`, which the sandbox does not intercept."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        inner: Any = self.generic_visit(node)
        return _filtered(nodes.List(inner.nodes, lineno=node.lineno), "concatenated")


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _concatenated(items: list[Any]) -> str:
    texts = [str(item) for item in items]
    _require_length(sum(map(len, texts)))
    return "".join(texts)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON that escapes no HTML, as the filter of jinja2 does."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _size(value: Any) -> int | None:
    return len(value) if isinstance(value, str | list | tuple | bytes) else None


def _require_length(length: int) -> None:
    if length > _LONGEST:
        raise jinja2.TemplateError(f"it writes more than {_LONGEST:,} characters")
