"""Modules that a saved graph may name beside those of the project.

The work directory of a run whose graph names some has a record of them, written at its
start, from what its command line imported. The record is signed together with the graph
by a key of this user (`runner.files.signature`), so it says nothing for another graph,
and nothing at all where it was made by somebody else. Besides, `--trust=PACKAGE` admits
a package for one command.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from runner import atomic_files
from runner.errors import UserError
from runner.files import form, signature

RECORD = "modules.json"
_admitted: set[str] = set()


@dataclasses.dataclass(frozen=True)
class Record:
    """Modules that one graph names.

    Attributes:
      modules: by name; `file:/...` for config files.
      path: directories that they are imported from.
      signature: of these and of the graph.
    """

    modules: Sequence[str]
    path: Sequence[str]
    signature: str = ""

    def content(self, graph: str) -> bytes:
        """Return what is signed."""
        return json.dumps([list(self.modules), list(self.path), graph]).encode()


def admit(packages: Iterable[str]) -> None:
    """Let the graphs and flags of this process name packages.

    Raises:
      UserError: one is of Python itself, which no experiment defines.
    """
    for package in packages:
        if package.partition(".")[0] in sys.stdlib_module_names:
            raise UserError(
                f"--trust={package}: a module of Python itself is never trusted; "
                "name the package that defines a loss, a model or data"
            )
        _admitted.add(package)


def admit_record(record: Record) -> None:
    """Let flags of this process name the modules of the record of its run."""
    import_from(record.path)
    _admitted.update(
        module
        for module in record.modules
        if module.partition(".")[0] not in sys.stdlib_module_names
    )


def admit_none() -> None:
    """Take back what an earlier command of this process admitted."""
    _admitted.clear()


def packages() -> frozenset[str]:
    """Return the packages that this process admits."""
    return frozenset(_admitted)


def is_admitted(module: str, names: Iterable[str] = ()) -> bool:
    """Return True for a module of an admitted package, or one of `names`."""
    parts = module.split(".")
    prefixes = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return module in names or not prefixes.isdisjoint(_admitted)


def read(directory: Path, graph: str | None = None) -> Record | None:
    """Return the record in a work directory; None without one that this user signed.

    Args:
      directory: the work directory.
      graph: the text of its `config.json`, where it was read before.
    """
    try:
        text = form.read_text(directory / "config.json") if graph is None else graph
        record = form.read(Record, directory / RECORD)
    except (OSError, ValueError):
        return None
    is_ours = signature.verifies(record.content(text), record.signature)
    return record if is_ours else None


def write(directory: Path, modules: Sequence[str], graph: str) -> None:
    """Write the record of a graph that names `modules`, if it can be signed."""
    record = Record(sorted(modules), _directories(modules))
    signed = signature.sign(record.content(graph))
    if signed is not None:
        record = dataclasses.replace(record, signature=signed)
        content = json.dumps(dataclasses.asdict(record), indent=1) + "\n"
        atomic_files.write_atomic(directory / RECORD, content)


def import_from(directories: Iterable[str]) -> None:
    """Add directories to the end of the import path, where they hide nothing."""
    sys.path += [path for path in directories if path not in sys.path]


def home(module: str) -> Path | None:
    """Return the directory that the package of an imported module stands in."""
    root = module if module.startswith("file:") else module.partition(".")[0]
    package = sys.modules.get(root)
    places = list(getattr(package, "__path__", ()))
    if not places and (file := getattr(package, "__file__", None)):
        places = [file]
    return Path(places[0]).resolve().parent if places else None


def _directories(modules: Iterable[str]) -> list[str]:
    """Return where modules were imported from, and what lies beside config files."""
    files = [name for name in sys.modules if name.startswith("file:")]
    homes = [home(module) for module in (*modules, *files)]
    return list(dict.fromkeys(str(place) for place in homes if place is not None))
