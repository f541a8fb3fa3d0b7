"""A fault: a small change that breaks the product, and the tests that must catch it."""

import dataclasses
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Fault:
    """One replacement in one file, read from `tests/faults/NAME.toml`.

    Attributes:
      name: the file's name without `.toml`.
      breaks: what goes wrong for a user, in a sentence.
      file: the source file, from the root of the checkout.
      old: text that stands in it exactly once.
      new: what takes its place.
      tests: pytest's names of the tests that must fail.
    """

    name: str
    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, text: str) -> str:
        """Return the broken text of `file`.

        Raises:
          ValueError: `old` does not stand in the text exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(
                f"{self.name}: {self.file} holds `old` {count} times, not 1"
            )
        return text.replace(self.old, self.new)


def read(path: Path) -> Fault:
    """Read one fault; unknown or missing entries are errors."""
    entries = tomllib.loads(path.read_text())
    entries["tests"] = tuple(entries["tests"])
    return Fault(name=path.stem, **entries)


def read_all() -> list[Fault]:
    """Read every fault of the folder, by name."""
    return [read(path) for path in sorted(FOLDER.glob("*.toml"))]
