"""Order of the tests, and which of them stay with one worker of pytest-xdist."""

import pytest

# Where tests take longest, a folder or file each. They begin first, so that no worker
# is left with one of these when the others have ended.
FIRST = (
    "tests/runner/step/",
    "tests/runner/teachers/",
    "tests/runner/head/",
    "tests/configs/runs_test.py",
    "tests/compatibility/runs_test.py",
    "tests/runner/recording/",
    "tests/runner/resume_test.py",
    "tests/configs/vision_test.py",
    "tests/runner/evaluation/",
    "tests/models/",
    "tests/losses/",
)


def pytest_collection_modifyitems(items):
    """Sort the tests by the entry of `FIRST` that they are under."""

    def rank(item):
        places = [place for place in FIRST if item.nodeid.startswith(place)]
        return FIRST.index(places[0]) if places else len(FIRST)

    items.sort(key=rank)


def unit(nodeid: str) -> str:
    """The file of a test; its folder in those of `FIRST`, whose files share programs.

    What one file has compiled, another need not compile again in the same process.
    """
    file = nodeid.split("::", 1)[0]
    folder = file.rpartition("/")[0] + "/"
    return folder if folder.startswith(FIRST) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Return a scheduler that hands out a `unit` at a time."""
    if config.getoption("dist") != "loadfile":
        return None  # as was asked for

    from xdist.scheduler import LoadFileScheduling

    class ByUnit(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    return ByUnit(config, log)
