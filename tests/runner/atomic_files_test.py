import os
import stat

import pytest

from runner import atomic_files


def test_a_file_is_replaced_whole_with_the_usual_permissions(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    atomic_files.write_atomic(path, "néw\n")
    assert path.read_text(encoding="utf-8") == "néw\n"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_cannot_take_its_place_is_an_error(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Permission denied"):
        atomic_files.write_atomic(tmp_path / "a.txt", "new")
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_is_removed_and_no_more(tmp_path):
    (tmp_path / f"{atomic_files.TEMPORARY}x").write_text("half")
    (tmp_path / "a.txt").write_text("whole")
    atomic_files.remove_temporaries(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
