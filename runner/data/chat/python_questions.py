"""Questions about the Python standard library: conversations without a download."""

import ast
import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence

from runner.data.chat.template import Message
from runner.data.documents.records import Record, Records
from runner.data.text.python_library import PythonLibrary

_MOST_METHODS = 3


@dataclasses.dataclass(frozen=True)
class PythonQuestions(Records):
    """Questions about the standard library, answered by its docstrings.

    One conversation per function, or class with up to three of its methods; an answer
    is the first paragraph of a docstring. Files are held out as in `PythonLibrary`.

    Attributes:
      split: "train", "held_out" or "all".

    Raises:
      UserError: There is no such split.
    """

    split: str = "train"

    def __post_init__(self) -> None:
        self._library()

    def check(self) -> None:
        self._library().check()

    def describe(self) -> Mapping[str, str]:
        return self._library().describe()

    @property
    def text_column(self) -> str:
        return "messages"

    def records(self, columns: Sequence[str] = ()) -> Iterator[Record]:
        del columns  # there is one
        for document in self._library():
            if document.name.endswith(".py"):
                for name, messages in _conversations(document.name, document.text):
                    place = f"{document.name}:{name}"
                    yield Record(place, place, {"messages": messages})

    def _library(self) -> PythonLibrary:
        return PythonLibrary(split=self.split)


def _conversations(path: str, text: str) -> Iterator[tuple[str, list[Message]]]:
    """Yield name and messages of each public function and class of a module."""
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    with warnings.catch_warnings(action="ignore"):  # escapes in old docstrings
        try:
            tree = ast.parse(text)
        except SyntaxError:
            return
    for node in _documented(tree):
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        question = f"What does the {kind} {module}.{node.name} do?"
        messages = _turn(question, node)
        methods = list(_documented(node)) if isinstance(node, ast.ClassDef) else []
        for method in methods[:_MOST_METHODS]:
            messages += _turn(f"And its method {method.name}?", method)
        yield node.name, messages


_Definition = ast.FunctionDef | ast.ClassDef


def _documented(tree: ast.Module | ast.ClassDef) -> Iterator[_Definition]:
    for node in tree.body:
        if isinstance(node, _Definition) and node.name[0] != "_" and _answer(node):
            yield node


def _turn(question: str, node: _Definition) -> list[Message]:
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": _answer(node)},
    ]


def _answer(node: _Definition) -> str:
    paragraph = (ast.get_docstring(node) or "").strip().partition("\n\n")[0]
    return " ".join(paragraph.split())
