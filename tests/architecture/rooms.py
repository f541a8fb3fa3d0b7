"""Map of the rooms, drawn from the imports: each stands above all that it imports.

python -m tests.architecture.rooms            # print it
python -m tests.architecture.rooms --write    # and put it into the README
"""

import re
import sys
import textwrap
from collections import defaultdict

from tests.architecture.imports import (
    PACKAGES,
    ROOT,
    floors,
    import_graph,
    room_graph,
)

README = ROOT / "README.md"
BEGIN, END = "<!-- rooms: drawn by `make rooms` -->", "<!-- end of rooms -->"
WIDTH = 84


def draw() -> str:
    """One line or more a floor, the highest first: `floor  rooms`.

    Raises:
      ValueError: the rooms import one another in a circle.
    """
    rooms = room_graph(import_graph(*PACKAGES))
    by_floor = defaultdict(list)
    for room, floor in floors(rooms).items():
        by_floor[floor].append(room)
    lines = []
    for floor in sorted(by_floor, reverse=True):
        prefix = f"{floor:>2}  "
        # A name is not broken at its spaces.
        names = ", ".join(name.replace(" ", "\0") for name in sorted(by_floor[floor]))
        text = textwrap.fill(
            names,
            WIDTH,
            initial_indent=prefix,
            subsequent_indent=" " * len(prefix),
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines.append(text.replace("\0", " "))
    arrows = sum(map(len, rooms.values()))
    lines += ["", f"{len(rooms)} rooms, {len(by_floor)} floors, {arrows} arrows down"]
    return "\n".join(lines)


def in_readme() -> str:
    """The map that the README holds between its markers.

    Raises:
      ValueError: the README has no markers.
    """
    match = _PLACE.search(README.read_text())
    if match is None:
        raise ValueError(f"README.md has no '{BEGIN}' ... '{END}'")
    return match[1]


def write() -> None:
    """Replace the map in the README."""
    block = f"{BEGIN}\n```text\n{draw()}\n```\n{END}"
    README.write_text(_PLACE.sub(lambda _: block, README.read_text()))


_PLACE = re.compile(
    rf"{re.escape(BEGIN)}\n```text\n(.*?)\n```\n{re.escape(END)}", re.DOTALL
)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    print(draw())
