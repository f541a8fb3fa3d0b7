"""Parts of pages that are made from the code, between two markers."""

import dataclasses
import re
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A part of a page.

    Attributes:
      page: The page.
      begin: The line before the part.
      end: The line after it.
    """

    page: Path
    begin: str
    end: str

    def read(self) -> str:
        """Return the part.

        Raises:
          ValueError: the page has no such lines.
        """
        match = re.search(self._place, self.page.read_text(), re.DOTALL)
        if match is None:
            raise ValueError(f"{self.page.name} has no '{self.begin}' ... '{self.end}'")
        return match[1]

    def write(self, text: str) -> None:
        """Replace the part."""
        block = f"{self.begin}\n{text}\n{self.end}"
        page = self.page.read_text()
        self.page.write_text(
            re.sub(self._place, lambda _: block, page, flags=re.DOTALL)
        )

    @property
    def _place(self) -> str:
        return rf"{re.escape(self.begin)}\n(.*?)\n{re.escape(self.end)}"
