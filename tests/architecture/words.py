"""Counts what the rules of prose are about; `python -m tests.architecture.words`."""

import ast
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.imports import PACKAGES, ROOT, sources, tree

# Participles that say of a variable what was done to it, not what it is.
PARTICIPLES = re.compile(r"_?(?:found|given|said|seen|taken|kept|made)")
OPENINGS = re.compile(r"(?:What|How|Where|Which|Whether)\b")


def participles() -> Counter[str]:
    """Uses of `PARTICIPLES` as names, by file; strings and comments are not code."""
    counts: Counter[str] = Counter()
    for path in sources(*PACKAGES):
        if not PARTICIPLES.search(path.read_text()):
            continue  # to tokenise takes a second
        with path.open("rb") as lines:
            for token in tokenize.tokenize(lines.readline):
                if token.type == tokenize.NAME and PARTICIPLES.fullmatch(token.string):
                    counts[str(path.relative_to(ROOT))] += 1
    return counts


def question_docstrings() -> list[str]:
    """`path:line first line` of docstrings that open like a question."""
    return [
        f"{path.relative_to(ROOT)}:{line} {text.partition(chr(10))[0]}"
        for path in sources(*PACKAGES)
        for line, text in docstrings(path)
        if OPENINGS.match(text)
    ]


def shapeless() -> list[str]:
    """`path:line` of annotations that say `jax.Array` and no shape."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("losses", "runner/step")
        for node in _outside_of_calls(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "jax.Array"
    ]


def _outside_of_calls(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but calls and what is in them: `isinstance(x, jax.Array)` is none."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Call):
            yield child
            yield from _outside_of_calls(child)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring of a file, private ones too."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree(path)):
        if isinstance(node, documented):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


if __name__ == "__main__":
    for place in question_docstrings():
        print(place)
    for name, count in participles().most_common():
        print(f"{count:>5} {name}")
    print(f"{len(question_docstrings())} docstrings, {participles().total()} names")
