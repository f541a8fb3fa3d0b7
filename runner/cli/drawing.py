"""A graph drawn as an SVG: one box a node, arguments as rows, edges to nodes.

Shows what the graph sets, not defaults. Laid out here, left to right, because the
`dot` program is rarely installed.
"""

import dataclasses
import html
from collections.abc import Iterator
from typing import Any

import fiddle as fdl

from runner.graph import nodes, paths
from runner.graph.describe import leaf

_ROW, _TITLE, _GAP, _COLUMN, _MARGIN = 18, 26, 14, 70, 24
_CHARACTER = 6.65  # width of one, 11 px monospaced
_WIDEST = 44  # characters of a value
_STYLE = """
  text { font: 11px ui-monospace, Menlo, Consolas, monospace; fill: #24292f; }
  .title { font-weight: 600; fill: #ffffff; }
  .key { fill: #57606a; }
  .box { fill: #ffffff; stroke: #b6bec8; }
  .edge { fill: none; stroke: #8c96a3; stroke-width: 1.4; }
  .again { stroke-dasharray: 4 3; }
"""
_COLOURS = {"losses": "#9a3b5c", "models": "#2f5d8a", "optax": "#5b6b2f"}
_COLOUR = "#3d4a57"  # everything else


@dataclasses.dataclass
class _Box:
    title: str
    rows: list[tuple[str, str, "_Box | None"]]
    again: set[int] = dataclasses.field(default_factory=set)  # rows to boxes above
    x: float = 0.0
    y: float = 0.0

    @property
    def height(self) -> float:
        return _TITLE + _ROW * len(self.rows) + 6 if self.rows else _TITLE - 4

    @property
    def width(self) -> float:
        rows = [len(key) + len(value) + 2 for key, value, _ in self.rows]
        return _CHARACTER * max([len(self.title), *rows]) + 24

    def children(self) -> Iterator["_Box"]:
        for row, (_, _, box) in enumerate(self.rows):
            if box is not None and row not in self.again:
                yield box


def svg(cfg: fdl.Buildable) -> str:
    """Return the drawing as a self-contained SVG document."""
    root = _box(cfg, {})
    columns = _columns(root)
    x = float(_MARGIN)
    for column in columns:
        for box in column:
            box.x = x
        x += max(box.width for box in column) + _COLUMN
    bottom = _place(root, float(_MARGIN))
    boxes = [box for column in columns for box in column]
    width, height = x - _COLUMN + _MARGIN, bottom + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">\n'
        f"<title>{html.escape(root.title)}</title>\n<style>{_STYLE}</style>\n"
        f'<rect width="100%" height="100%" fill="#f6f8fa"/>\n'
        + "".join(edge for box in boxes for edge in _edges(box))
        + "".join(_draw_box(box) for box in boxes)
        + "</svg>\n"
    )


def _box(value: Any, boxes: dict[int, _Box]) -> _Box:
    kind = nodes.kind_of(value)
    box = _Box(f"{kind}(...)" if isinstance(value, fdl.Partial) else kind, [])
    boxes[id(value)] = box
    for key, child in _arguments(value):
        for label, item in _flat(key, child):
            other = boxes.get(id(item)) if isinstance(item, fdl.Buildable) else None
            # A node that several hold is drawn once; the others point at it.
            if other:
                box.again.add(len(box.rows))
                box.rows.append((label, "", other))
            elif nodes.is_node(item):
                box.rows.append((label, "", _box(item, boxes)))
            else:
                content = leaf(item)
                if len(content) > _WIDEST:
                    content = content[: _WIDEST - 3] + "..."
                box.rows.append((label, content, None))
    return box


def _arguments(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arguments that the graph sets, in the order of the signature."""
    arguments = value.__arguments__ if isinstance(value, fdl.Buildable) else None
    for key, child in (nodes.children(value) or {}).items():
        if arguments is None or key in arguments:
            yield paths.segment(value, key).removeprefix("."), child.value


def _flat(label: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a container of nodes as one row for each item."""
    inner = nodes.children(value)
    if nodes.is_node(value) or not inner:
        yield label, value
    elif any(nodes.is_node(child.value) for child in inner.values()):
        for key, child in inner.items():
            yield label + paths.segment(value, key), child.value
    else:
        yield label, value


def _columns(root: _Box) -> list[list[_Box]]:
    columns, level = [], [root]
    while level:
        columns.append(level)
        level = [child for box in level for child in box.children()]
    return columns


def _place(box: _Box, top: float) -> float:
    """Set `y` in a tree whose upper edge is `top`; return its lower edge."""
    below = top
    for child in box.children():
        below = _place(child, below) + _GAP
    below = max(below - _GAP, top)
    box.y = top
    return max(below, top + box.height)


def _edges(box: _Box) -> Iterator[str]:
    for row, (_, _, child) in enumerate(box.rows):
        if child is not None:
            x, bend, end_x, end_bend = _ends(box, child)
            y, end_y = box.y + _TITLE + _ROW * (row + 0.5), child.y + _TITLE / 2
            kind = "edge again" if row in box.again else "edge"
            yield (
                f'<path class="{kind}" d="M{x:.1f} {y:.1f} C{x + bend:.1f} {y:.1f} '
                f'{end_x + end_bend:.1f} {end_y:.1f} {end_x:.1f} {end_y:.1f}"/>\n'
            )


def _ends(box: _Box, child: _Box) -> tuple[float, float, float, float]:
    """Return an edge's two ends, and its straight run at each."""
    right, bend = box.x + box.width, _COLUMN / 2
    if child.x >= right:
        bend = max((child.x - right) / 2, bend)
        return right, bend, child.x, -bend
    if child.x + child.width <= box.x:  # a node used again, further left
        return box.x, -bend, child.x + child.width, bend
    return box.x, -bend, child.x, -bend  # in the same column


def _draw_box(box: _Box) -> str:
    colour = _COLOURS.get(box.title.split(".")[0], _COLOUR)
    size = f'x="{box.x:.1f}" width="{box.width:.1f}" rx="5"'
    parts = [
        f'<rect class="box" {size} y="{box.y:.1f}" height="{box.height:.1f}"/>',
        f'<rect {size} y="{box.y:.1f}" height="{_TITLE - 4}" fill="{colour}"/>',
        _text(box.x + 12, box.y + 15, "title", box.title),
    ]
    for row, (key, value, _) in enumerate(box.rows):
        y = box.y + _TITLE + _ROW * row + 13
        parts.append(_text(box.x + 12, y, "key", key))
        if value:
            offset = _CHARACTER * (len(key) + 2)
            parts.append(_text(box.x + 12 + offset, y, "value", value))
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, kind: str, content: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text class="{kind}" {place}>{html.escape(content)}</text>'
