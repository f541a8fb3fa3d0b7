import subprocess

import jax

from runner.machine import versions


def test_the_libraries_are_those_that_run():
    assert versions.software()["libraries"]["jax"] == jax.__version__


def test_the_devices_are_those_of_jax():
    devices = versions.devices()
    assert devices["count"] == 8 and devices["backend"] == "cpu"


def test_flags_versions_and_devices_are_compared_and_nothing_else(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a")
    began = {**versions.software(), "devices": versions.devices()}
    monkeypatch.delenv("XLA_FLAGS")
    now = {**versions.software(), "platform": "another", "devices": versions.devices()}
    now["devices"] = now["devices"] | {"count": 4}
    assert versions.differences(began, now) == [
        "flags.XLA_FLAGS: began with --xla_a, goes on with none",
        "devices.count: began with 8, goes on with 4",
    ]
    assert versions.differences({}, now) == []


def test_a_commit_carries_a_mark_when_files_differ_from_it(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True)

    assert versions._commit(tmp_path) is None
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "one")
    clean = versions._commit(tmp_path)
    assert clean and len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert versions._commit(tmp_path) == f"{clean}+"
