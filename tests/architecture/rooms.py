"""Map of the rooms, drawn from the imports: each stands above all that it imports.

python -m tests.architecture.rooms            # print it
python -m tests.architecture.rooms --write    # and into docs/rooms.md and rooms.svg
"""

import sys
import textwrap
from collections import defaultdict

from tests.architecture import rooms_picture
from tests.architecture.imports import (
    PACKAGES,
    ROOT,
    floors,
    import_graph,
    room_graph,
)
from tests.drawn import Drawn

PLACE = Drawn(
    ROOT / "docs" / "rooms.md",
    begin="<!-- rooms: drawn by `make rooms` -->",
    end="<!-- end of rooms -->",
)
PICTURE = ROOT / "docs" / "rooms.svg"
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


def block() -> str:
    """Return the map as docs/rooms.md holds it."""
    return f"```text\n{draw()}\n```"


def picture() -> str:
    """Return the map as the SVG file that the README shows."""
    return rooms_picture.svg(room_graph(import_graph(*PACKAGES)))


def write() -> None:
    """Replace the map in docs/rooms.md, and its picture."""
    PICTURE.write_text(picture())
    PLACE.write(block())


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    print(draw())
