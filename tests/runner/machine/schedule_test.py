import importlib.metadata

import pytest

from runner.machine import schedule, versions


@pytest.mark.parametrize("flags", [None, "--xla_a=1 --xla_b=2"])
def test_the_flag_is_added_once_and_is_not_the_users(flags):
    environment = {} if flags is None else {"XLA_FLAGS": flags}
    for _ in range(2):
        schedule.prefer_memory(environment)
    assert environment["XLA_FLAGS"].count("concurrency_optimized_scheduler=false") == 1
    assert environment["XLA_FLAGS"].startswith(flags or "--xla_cpu")
    assert schedule.without_ours(environment["XLA_FLAGS"]) == flags


def test_what_the_user_sets_stands(monkeypatch):
    environment = {"XLA_FLAGS": "--xla_cpu_enable_concurrency_optimized_scheduler=true"}
    schedule.prefer_memory(environment)
    assert environment["XLA_FLAGS"].endswith("=true")
    monkeypatch.setattr(schedule.importlib.metadata, "version", lambda _: "0.11.0")
    schedule.prefer_memory(empty := {})
    assert empty == {}


def test_versions_tell_of_the_users_flags_alone(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    before = versions.software()["flags"]
    monkeypatch.setenv("XLA_FLAGS", "")
    schedule.prefer_memory(versions.os.environ)
    assert versions.software()["flags"] == before


def test_this_jaxlib_is_known():
    assert importlib.metadata.version("jaxlib").startswith(schedule._KNOWN)
