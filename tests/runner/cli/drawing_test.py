"""The picture of a graph."""

import xml.etree.ElementTree as xml
from pathlib import Path

import fiddle as fdl
import pytest

import losses
from runner.cli import drawing
from runner.graph import read

SAMPLE = str(Path(__file__).parents[1] / "sample.py")
SVG = "{http://www.w3.org/2000/svg}"


def boxes(root):
    """(left, top, right, bottom) of every node."""
    found = []
    for box in root.iter(f"{SVG}rect"):
        if box.get("class") == "box":
            x, y, width, height = (
                float(box.get(k)) for k in ("x", "y", "width", "height")
            )
            found.append((x, y, x + width, y + height))
    return found


@pytest.fixture
def sample():
    return xml.fromstring(drawing.svg(read.read(SAMPLE)[0]))


def test_every_node_and_value_is_there(sample):
    words = {text.text for text in sample.iter(f"{SVG}text")}
    assert words >= {
        "sample.py:Job",
        "models.Transformer(...)",
        "losses.ce",
        "losses.ZLoss",
        "optax.adamw",
        "0.0001",
    }


def test_boxes_do_not_overlap_and_lie_in_the_picture(sample):
    found = boxes(sample)
    assert len(found) == 10
    width, height = float(sample.get("width")), float(sample.get("height"))
    for i, (left, top, right, bottom) in enumerate(found):
        assert min(left, top) >= 0 and right <= width and bottom <= height
        for x0, y0, x1, y1 in found[:i]:
            assert right <= x0 or x1 <= left or bottom <= y0 or y1 <= top


def test_a_node_used_twice_is_one_box_with_two_edges():
    shared = fdl.Config(losses.ZLoss)
    root = xml.fromstring(drawing.svg(fdl.Config(dict, a=shared, b=shared)))
    edges = [path.get("class") for path in root.iter(f"{SVG}path")]
    assert sorted(edges) == ["edge", "edge again"]
    assert len(boxes(root)) == 2


def test_words_are_escaped():
    picture = drawing.svg(fdl.Config(dict, a="<&>"))
    assert "&lt;&amp;&gt;" in picture
    xml.fromstring(picture)
