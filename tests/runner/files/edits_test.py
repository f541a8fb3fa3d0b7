"""No small edit of any file that is read gives a traceback."""

import gc

import pytest

from runner.cli import gin_flags
from runner.cli.flags import Flag
from runner.errors import UserError
from tests.runner.files import edits, kinds
from tests.runner.files.kind import answer

FAST = 1  # edit of each kind; all of them with the slow tests


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("kinds")


@pytest.fixture(scope="module")
def by_name(directory):
    return {kind.name: kind for kind in kinds.kinds(directory)}


def refusals(kind, numbers, directory):
    """What is said of each edit; a traceback is an error of the test."""
    listed = sorted(directory.iterdir())
    for number in numbers:
        content = edits.edit(kind.name, kind.file, kind.content(), number, kind.reseal)
        yield number, answer(kind, content, directory)
    assert sorted(directory.iterdir()) == listed, "a file outside was written"


# dear: reads 56 kinds of files, among them models
def test_edited_files_are_read_or_refused_in_words(by_name, directory):
    for kind in (kind for kind in by_name.values() if not kind.slow):
        assert answer(kind, kind.content(), directory) == "", kind.name
        for number, message in refusals(kind, range(FAST), directory):
            assert message.count("\n") < kind.lines, f"{kind.name} {number}: {message}"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_a_hundred_edits_of_a_kind_are_read_or_refused(by_name, directory, part):
    for kind in list(by_name.values())[part::5]:
        assert answer(kind, kind.content(), directory) == "", kind.name
        for number, message in refusals(kind, range(kind.edits), directory):
            assert message.count("\n") < kind.lines, f"{kind.name} {number}: {message}"
    gc.collect()  # coroutines that orbax dropped, here where their warning is off


def test_an_edit_is_the_same_everywhere():
    content = b'{"a": [1, 2], "b": {"c": "d"}}'
    all_edits = [
        [edits.edit("x", "x.json", content, n) for n in range(50)] for _ in "ab"
    ]
    assert all_edits[0] == all_edits[1] and len(set(all_edits[0])) > 30


def test_a_runtime_file_that_includes_itself_is_refused(tmp_path):
    path = tmp_path / "a.gin"
    path.write_text("include 'a.gin'\n")
    with pytest.raises(UserError, match="includes itself"):
        gin_flags.apply([Flag("gin_file", str(path))])
