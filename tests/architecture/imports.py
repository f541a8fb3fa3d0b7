"""Import graph of the source: who imports whom, the circles in it, and its floors.

Every import counts: those inside functions and under `TYPE_CHECKING` too.
"""

import ast
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("losses", "models", "runner", "configs", "launch")
# Packages whose `__init__` hands out names from everything below it: the door of the
# house, not one of its rooms. Their `__main__` belongs to the door.
FACADES = (
    "losses",
    "models",
    "runner",
    "runner.data",
    "runner.starts",
    "runner.sweeps",
    "runner.teachers",
)

Graph = Mapping[str, set[str]]


def sources(*packages: str) -> list[Path]:
    """The Python files of `packages`, sorted."""
    return sorted(path for name in packages for path in (ROOT / name).rglob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name that imports `path`; a package's `__init__` has the package's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def modules(*packages: str) -> dict[str, Path]:
    """Files by module name."""
    return {module_name(path): path for path in sources(*packages)}


@functools.cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file; nobody changes it, nor the file meanwhile."""
    return ast.parse(path.read_text())


@functools.cache
def import_graph(*packages: str) -> dict[str, set[str]]:
    """By module of `packages`: the modules of `packages` that it imports."""
    files = modules(*packages)
    return {
        name: {
            module
            for imported in imported_names(path)
            if (module := _nearest(imported, files)) and module != name
        }
        for name, path in files.items()
    }


@functools.cache
def imported_names(path: Path) -> set[str]:
    """Dotted names of all imports of a file, `from a import b` as `a.b`."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import hides who imports whom"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _nearest(name: str, files: Mapping[str, Path]) -> str | None:
    """The module that a dotted name lies in, or None where it is not ours."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


def room(module: str) -> str:
    """The room of a module: its folder; of a file right in `runner/`, the file."""
    if module in FACADES:
        return f"{module} (door)"
    parent, _, name = module.rpartition(".")
    if name == "__main__" and parent in FACADES:
        return f"{parent} (door)"
    if parent in ("runner", "") or (ROOT / module.replace(".", "/")).is_dir():
        return module
    return parent


def room_graph(graph: Graph) -> dict[str, set[str]]:
    """By room: the other rooms that its modules import."""
    rooms: dict[str, set[str]] = {room(module): set() for module in graph}
    for module, imported in graph.items():
        rooms[room(module)] |= {room(other) for other in imported} - {room(module)}
    return rooms


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that all reach one another (strongly connected components)."""
    reach = {node: reachable(node, graph) for node in graph}
    groups = {
        frozenset(other for other in reach[node] if node in reach[other])
        for node in graph
    }
    return sorted(sorted(group) for group in groups if group)


def reachable(start: str, graph: Graph) -> set[str]:
    """What `start` imports, directly or not; itself only where it is in a circle."""
    reached: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        node = ahead.pop()
        if node not in reached:
            reached.add(node)
            ahead += graph[node]
    return reached


def floors(graph: Graph) -> dict[str, int]:
    """Height of each node: one above the highest that it imports, else 0.

    Raises:
      ValueError: the graph has a circle.
    """
    heights: dict[str, int] = {}
    while len(heights) < len(graph):
        ready = [
            node
            for node, below in graph.items()
            if node not in heights and below <= heights.keys()
        ]
        if not ready:
            raise ValueError(f"import circles: {circles(graph)}")
        levels = {node: _height(graph[node], heights) for node in ready}
        heights.update(levels)
    return heights


def _height(below: Iterable[str], heights: Mapping[str, int]) -> int:
    return 1 + max((heights[node] for node in below), default=-1)
