"""No import circles, small folders, and the map of rooms in docs/rooms.md."""

import ast
from xml.etree import ElementTree

import pytest

from tests.architecture import rooms, rooms_picture
from tests.architecture.imports import (
    PACKAGES,
    ROOT,
    circles,
    floors,
    import_graph,
    imported_names,
    room_graph,
    sources,
    tree,
)

MOST_FILES_OF_A_FOLDER = 20
MOST_FILES_OF_RUNNER = 8
MOST_TYPE_CHECKING_BLOCKS = 10
# Blocks that do not say yet why a plain import will not do.
MOST_WITHOUT_REASON = 3


def test_modules_do_not_import_one_another_in_circles():
    assert circles(import_graph(*PACKAGES)) == []


def test_rooms_do_not_import_one_another_in_circles():
    assert circles(room_graph(import_graph(*PACKAGES))) == []


def test_the_page_holds_the_map_of_rooms_that_the_imports_draw():
    assert rooms.PLACE.read() == rooms.block(), "make rooms ROOMS=--write"


def test_the_readme_shows_the_picture_of_rooms_that_the_imports_draw():
    assert rooms.PICTURE.read_text() == rooms.picture(), "make rooms ROOMS=--write"
    assert "](docs/rooms.svg)" in (ROOT / "README.md").read_text()


def test_the_picture_has_every_room_once_and_only_arrows_down():
    graph = {"runner.a": {"runner.b", "losses"}, "runner.b": {"losses.core"}}
    graph |= {"losses": {"losses.core"}, "losses.core": set(), "runner (door)": set()}
    merged = rooms_picture.merged(graph)
    assert merged == {
        "runner.a": {"runner.b", "losses"},
        "runner.b": {"losses"},
        "losses": set(),
    }
    # From a to losses the arrow over b is enough.
    assert rooms_picture.without_shortcuts(merged)["runner.a"] == {"runner.b"}
    picture = ElementTree.fromstring(rooms_picture.svg(graph))
    places = dict(zip(texts(picture), boxes(picture), strict=True))
    assert list(places) == ["losses", "a", "b"]
    assert places["a"] < places["b"] < places["losses"]


def texts(picture: ElementTree.Element) -> list[str | None]:
    """The names in the picture."""
    return [element.text for element in picture if element.tag.endswith("}text")]


def boxes(picture: ElementTree.Element) -> list[float]:
    """The height of each box below the top."""
    return [float(e.get("y", "")) for e in picture if e.tag.endswith("}rect")]


def test_a_circle_is_seen_and_has_no_floors():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert circles(graph) == [["b", "c"]]
    with pytest.raises(ValueError, match=r"\['b', 'c'\]"):
        floors(graph)
    graph["c"] = set()
    assert circles(graph) == []
    assert floors(graph) == {"c": 0, "b": 1, "a": 2, "d": 3}


def test_imports_inside_functions_and_for_types_alone_count(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "import a.b\n"
        "if TYPE_CHECKING:\n    from c import d\n"
        "def f():\n    import e\n"
    )
    assert imported_names(path) == {"typing.TYPE_CHECKING", "a.b", "c.d", "e"}


def test_folders_stay_small():
    folders = {path.parent for path in sources(*PACKAGES)}
    for folder in folders:
        most = MOST_FILES_OF_A_FOLDER
        if folder == ROOT / "runner":
            most = MOST_FILES_OF_RUNNER
        files = len(list(folder.glob("*.py")))
        assert files <= most, f"{folder.relative_to(ROOT)}: {files} files"


def type_checking_blocks() -> list[str]:
    """`path:line` of every `if TYPE_CHECKING:` without a comment on or above it."""
    blocks = []
    for path in sources(*PACKAGES):
        lines = path.read_text().splitlines()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                # On the line, above it, or first thing inside.
                near = lines[max(node.lineno - 2, 0) : node.lineno + 1]
                reason = any("#" in line for line in near)
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                blocks.append(place if reason else f"{place} (no reason)")
    return blocks


def test_imports_for_types_alone_are_few():
    blocks = type_checking_blocks()
    assert len(blocks) <= MOST_TYPE_CHECKING_BLOCKS, blocks
    unreasoned = [place for place in blocks if "(no reason)" in place]
    assert len(unreasoned) <= MOST_WITHOUT_REASON, unreasoned


def test_no_test_is_a_library():
    for path in sources("tests"):
        for name in imported_names(path):
            inside_a_test_file = any(part.endswith("_test") for part in name.split("."))
            place = str(path.relative_to(ROOT))
            assert not inside_a_test_file, place
