"""Picture of the rooms: one box a room, arrows down to what it imports.

Coarser than the text in docs/rooms.md: the rooms within a room are one box; doors, what
they alone import, and arrows that others imply are left out. Layers are the floors, and
long arrows are led between the boxes through bends, one a floor (Sugiyama, Tagawa
and Toda 1981, without the search for the least crossings).
"""

import html
import itertools
from collections import defaultdict

from tests.architecture.imports import Graph, floors, reachable

_ROW, _BOX, _GAP, _MARGIN = 46, 24, 16, 14  # px
_LETTER, _PADDING, _BEND = 6.7, 18, 4  # px: of a letter, beside a name, of a bend
_SWEEPS = 24
_STYLE = """
    .room { fill: #f6f8fa; stroke: #57606a; } .top { fill: #ddf4ff; stroke: #0969da; }
    text { fill: #1f2328; text-anchor: middle; }
    .arrow { fill: none; stroke: #8c959f; stroke-width: 1.1; marker-end: url(#tip); }
    @media (prefers-color-scheme: dark) {
      .room { fill: #161b22; stroke: #8b949e; } .top { fill: #0c2d4a; stroke: #58a6ff; }
      text { fill: #e6edf3; } .arrow { stroke: #6e7681; }
    }
"""


def svg(rooms: Graph) -> str:
    """Return the picture of a graph of rooms as an SVG file.

    Raises:
      ValueError: the rooms import one another in a circle.
    """
    graph = without_shortcuts(merged(rooms))
    heights = floors(merged(rooms))
    layers, chains = _layers(graph, heights)
    x = _places(layers, chains)
    width = max(x[node] + _width(node) / 2 for node in x) + _MARGIN
    height = len(layers) * _ROW + _BOX

    def y(floor: float) -> float:
        return _MARGIN + (len(layers) - 1 - floor) * _ROW

    # Arrows first: boxes hide what runs below them.
    arrows = []
    for chain in chains:
        floor = heights[chain[0]]
        path = f"M{x[chain[0]]:.0f} {y(floor) + _BOX:.0f}"
        for i, node in enumerate(chain[1:], start=1):
            above, below = y(floor - i + 1) + _BOX, y(floor - i)
            middle = (above + below) / 2
            before = x[chain[i - 1]]
            path += f"C{before:.0f} {middle:.0f} {x[node]:.0f} {middle:.0f}"
            path += f" {x[node]:.0f} {below - (2 if i == len(chain) - 1 else 0):.0f}"
            if i < len(chain) - 1:
                path += f"V{below + _BOX:.0f}"
        arrows.append(f'  <path class="arrow" d="{path}"/>')
    boxes = [
        f'  <rect class="{"room" if "." in name else "top"}" x="{x[name] - w / 2:.0f}"'
        f' y="{y(floor):.0f}" width="{w:.0f}" height="{_BOX}" rx="5"/>'
        f'<text x="{x[name]:.0f}" y="{y(floor) + 16:.0f}">{_label(name)}</text>'
        for name, floor in sorted(heights.items())
        for w in [_width(name)]
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} '
            f'{height:.0f}" font-family="system-ui, sans-serif" font-size="12" '
            f'role="img" aria-label="{len(heights)} rooms on {len(layers)} floors; '
            'an arrow points down to what a room imports">',
            f"  <style>{_STYLE}  </style>",
            '  <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="6" markerHeight="6" orient="auto">'
            '<path d="M0 0 L8 4 L0 8 z" fill="#8b949e"/></marker></defs>',
            *arrows,
            *boxes,
            "</svg>\n",
        ]
    )


def merged(rooms: Graph) -> dict[str, set[str]]:
    """Return the graph with one node a package, or a room right below `runner`."""
    graph: dict[str, set[str]] = {}
    for room, imported in rooms.items():
        if not _is_door(room):
            below = {_outer(other) for other in imported if not _is_door(other)}
            graph.setdefault(_outer(room), set()).update(below - {_outer(room)})
    imported = set().union(*graph.values())
    return {room: below for room, below in graph.items() if below or room in imported}


def without_shortcuts(graph: Graph) -> dict[str, set[str]]:
    """Return the graph less each arrow that a longer way implies."""
    far = {
        node: {end for other in below for end in reachable(other, graph)}
        for node, below in graph.items()
    }
    return {node: below - far[node] for node, below in graph.items()}


def _is_door(room: str) -> bool:
    return room.endswith(" (door)")


def _outer(room: str) -> str:
    parts = room.split(".")
    return ".".join(parts[:2] if parts[0] == "runner" else parts[:1])


def _label(name: str) -> str:
    return html.escape(name.removeprefix("runner."))


def _width(node: str) -> float:
    return _BEND if " " in node else _LETTER * len(_label(node)) + _PADDING


def _layers(
    graph: Graph, heights: dict[str, int]
) -> tuple[list[list[str]], list[list[str]]]:
    """Return the nodes of each floor, bends included, and every arrow as a chain."""
    layers: list[list[str]] = [[] for _ in range(max(heights.values()) + 1)]
    for name in sorted(heights):
        layers[heights[name]].append(name)
    chains = []
    for start in sorted(graph):
        for end in sorted(graph[start]):
            bends = range(heights[start] - 1, heights[end], -1)
            for floor in bends:
                layers[floor].append(f"{start} {end} {floor}")
            chains.append([start, *(f"{start} {end} {f}" for f in bends), end])
    return layers, chains


def _places(layers: list[list[str]], chains: list[list[str]]) -> dict[str, float]:
    """Return the middle of each node: near its neighbors, in no other's way."""
    neighbors: dict[str, list[str]] = defaultdict(list)
    for chain in chains:
        for one, other in itertools.pairwise(chain):
            neighbors[one].append(other)
            neighbors[other].append(one)
    x: dict[str, float] = {}
    for layer in layers:
        x.update(zip(layer, _apart(layer, dict.fromkeys(layer, 0.0)), strict=True))
    # The order of a floor may change in the first half of the sweeps alone.
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 else reversed(layers):
            wanted = {
                node: sum(map(x.__getitem__, near)) / len(near)
                if (near := neighbors[node])
                else x[node]
                for node in layer
            }
            if sweep < _SWEEPS // 2:
                layer.sort(key=wanted.__getitem__)
            x.update(zip(layer, _apart(layer, wanted), strict=True))
    left = min(x[node] - _width(node) / 2 for node in x)
    return {node: place - left + _MARGIN for node, place in x.items()}


def _apart(layer: list[str], wanted: dict[str, float]) -> list[float]:
    """Return places in order, a gap apart, nearest to `wanted` in squares.

    Less the room that each needs, they must not fall: an isotonic regression.
    """
    offsets, at = [], 0.0
    for i, node in enumerate(layer):
        at += (_width(layer[i - 1]) + _width(node)) / 2 + _GAP if i else 0.0
        offsets.append(at)
    pools: list[tuple[float, int]] = []  # sum and count of what stands together
    for node, offset in zip(layer, offsets, strict=True):
        total, count = wanted[node] - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, members = pools.pop()
            total, count = total + before, count + members
        pools.append((total, count))
    starts = [total / count for total, count in pools for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]
