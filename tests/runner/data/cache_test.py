import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.data import cache
from runner.errors import UserError


def make(text=b"payload", calls=None):
    def chunks():
        if calls is not None:
            calls.append(text)
        return [text[:3], memoryview(text)[3:]]

    return chunks


def test_a_file_is_made_once(tmp_path):
    calls, path = [], tmp_path / "a" / "b"
    for _ in range(3):
        assert bytes(cache.fetch(path, make(calls=calls))) == b"payload"
    assert len(calls) == 1
    assert [p.name for p in path.parent.iterdir()] == ["b"]


def test_an_empty_payload_is_kept_too(tmp_path):
    calls = []
    for _ in range(2):
        assert bytes(cache.fetch(tmp_path / "a", make(b"", calls))) == b""
    assert len(calls) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty", "short"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    calls, path = [], tmp_path / "a"
    cache.fetch(path, make(calls=calls))
    good = path.read_bytes()
    bad = {
        "flip": bytes([good[0] ^ 1]) + good[1:],
        "cut": good[:-1],
        "grow": good + b"x",
        "empty": b"",
        "short": b"abc",
    }[damage]
    path.write_bytes(bad)
    assert bytes(cache.fetch(path, make(calls=calls))) == b"payload"
    assert len(calls) == 2
    assert path.read_bytes() == good


def test_what_fails_leaves_nothing_behind(tmp_path):
    def fail():
        yield b"some"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fetch(tmp_path / "a", fail)
    assert not list(tmp_path.iterdir())


def test_temporary_files_of_the_dead_are_removed(tmp_path):
    old, new = tmp_path / "a.1.tmp", tmp_path / "a.2.tmp"
    for file in (old, new):
        file.touch()
    os.utime(old, (time.time() - 1e6,) * 2)
    cache.fetch(tmp_path / "a", make())
    assert not old.exists()
    assert new.exists()


def test_where_nothing_can_be_written_the_setting_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--gin.input.cache=DIR"):
        cache.fetch(tmp_path / "file" / "a", make())


def test_the_directory_is_the_argument_or_xdg_or_home(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache.directory("/here") == Path("/here")
    assert cache.directory() == Path("/x/retort")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == Path.home() / ".cache" / "retort"


def test_processes_at_once_all_read_the_same(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from runner.data import cache\n"
        "chunks = lambda: (bytes([i % 251]) * 9973 for i in range(300))\n"
        "payload = cache.fetch(pathlib.Path(sys.argv[1]), chunks)\n"
        "print(len(payload), sum(payload))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    outputs = {process.communicate()[0] for process in processes}
    total = sum(i % 251 for i in range(300)) * 9973
    assert outputs == {f"{300 * 9973} {total}\n"}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
