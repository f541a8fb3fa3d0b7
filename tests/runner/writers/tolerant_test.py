"""A writer that fails ends nothing: it is said once, and tried again in order."""

import errno
import io
import os

import pytest

from runner import writers
from runner.files import confined
from runner.writers.terminal import Terminal


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def failures(screen):
    return writers.Failures(Terminal(screen))


@pytest.fixture
def writer(tmp_path, screen, failures):
    terminal = Terminal(screen)
    return writers.create(tmp_path, terminal=terminal, failures=failures)


def fill_the_disk(monkeypatch):
    """Every write to a file gives 3 bytes, and no error, as a full disk does."""
    whole = confined.append_whole

    class Full:
        def __init__(self, file):
            self._file = file

        def fileno(self):
            return self._file.fileno()

        def write(self, content):
            return self._file.write(content[:3])

    monkeypatch.setattr(confined, "append_whole", lambda f, c: whole(Full(f), c))


def test_a_full_disk_is_said_once_and_what_was_lost_is_written_later(
    tmp_path, screen, failures, writer, monkeypatch
):
    writer.write_scalars(1, {"learning/ce": 3.0})
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        for step in (2, 3):
            writer.write_scalars(step, {"learning/ce": 2.0})
        writer.flush()
        reason = os.strerror(errno.ENOSPC)
        assert sorted(failures.names) == ["events", "metrics.jsonl"]
        assert (
            screen.getvalue().count(f"metrics.jsonl cannot be written ({reason})") == 1
        )
    writer.write_scalars(4, {"learning/ce": 1.0})
    assert (
        failures.names == [] and "metrics.jsonl is written again" in screen.getvalue()
    )
    writer.close()
    rows = writers.read(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["learning/ce"]) for row in rows] == [
        (1, 3.0),
        (2, 2.0),
        (3, 2.0),
        (4, 1.0),
    ]


def test_what_is_never_written_is_known_at_the_end(failures, writer, monkeypatch):
    fill_the_disk(monkeypatch)
    writer.write_scalars(1, {"learning/ce": 3.0})
    writer.close()
    assert sorted(failures.names) == ["events", "metrics.jsonl"]


def test_a_report_that_cannot_be_drawn_is_a_failure_and_no_error(screen, failures):
    with failures.caught("report.html"):
        raise RuntimeError("no font\nand more")
    assert failures.names == ["report.html"]
    assert screen.getvalue() == (
        "report.html cannot be written (no font); the run goes on\n"
    )
