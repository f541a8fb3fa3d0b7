"""What a frozen sweep brings runs under `--trust` alone."""

import sys
from pathlib import Path

import pytest

from runner import main, sweeps
from runner.cli import flags
from runner.errors import UserError
from runner.sweeps import sequential, trust

SAMPLE = Path(__file__).parents[1] / "sample.py"
SIZES = """

def sizes():
    return [{"fdl.num_steps": 3}, {"fiddler": "bigger(4)"}]
"""


class Place:
    """A config file whose graphs need it, and commands about a sweep of it."""

    def __init__(self, directory):
        self.config, self.path = directory / "own.py", directory / "sweep"
        self.config.write_text(SAMPLE.read_text() + SIZES)

    def argv(self, *more):
        argv = [f"--fdl_config={self.config}", "--sweep=sizes"]
        return [*argv, f"--workdir={self.path}", *more]

    def freeze(self, *more):
        for name in [
            n for n in sys.modules if n.startswith(f"file:{self.path.parent}")
        ]:
            del sys.modules[name]
        return sweeps.freeze(flags.parse(self.argv(*more)), ["runner"])


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def ran(monkeypatch):
    """The sweeps that would have run."""
    sweeps_run = []
    monkeypatch.setattr(sequential, "run", sweeps_run.append)
    return sweeps_run


def test_the_directory_alone_runs_its_source_only_when_trusted(place, ran, capsys):
    frozen = place.freeze()
    assert trust.flags(frozen) == f"--workdir={place.path} --trust"
    assert main.main(["runner", f"--workdir={place.path}"]) == 2
    error = capsys.readouterr().err
    assert f"would run {place.path}/source/own.py\n" in error and "--trust" in error
    assert len(error.splitlines()) <= 3 and ran == []
    assert main.main(["runner", f"--workdir={place.path}", "--trust"]) == 0
    assert ran == [frozen]


def test_the_command_that_names_the_same_file_trusts_it(place):
    frozen = place.freeze()
    assert place.freeze() == frozen


def test_a_copy_that_was_changed_is_another_file(place):
    frozen = place.freeze()
    assert frozen.source is not None
    frozen.source.write_text(frozen.source.read_text() + "print('stranger')\n")
    with pytest.raises(UserError, match=r"run .*source/own\.py"):
        place.freeze()
    assert place.freeze("--trust") == frozen


def test_a_point_that_calls_a_function_of_another_file_is_named(place):
    place.freeze()
    path = place.path / "sweep.json"
    path.write_text(path.read_text().replace("'bigger(4)'", "'/tmp/x.py:f(4)'"))
    with pytest.raises(UserError, match=r"run /tmp/x\.py"):
        place.freeze()


@pytest.mark.parametrize(
    ("setting", "outside"),
    [
        ("loop.log_every=3", False),
        ("compilation.cache={}/cache", False),
        ("compilation.cache=/tmp/cache", True),
        ("input.cache=~/cache", True),
        ("loop.wandb_project=mine", True),
        ("distributed.coordinator=host:1", True),
    ],
)
def test_settings_that_reach_out_of_the_directory_are_named(place, setting, outside):
    setting = setting.format(place.path)
    place.freeze()
    name, _, value = setting.partition("=")
    literal = value if value.isdigit() else repr(value)
    (place.path / "runtime.gin").write_text(f"{name} = {literal}\n")
    if not outside:
        place.freeze()
        return
    with pytest.raises(UserError, match=f"set {name} to {value}"):
        place.freeze()
    place.freeze("--trust")
    place.freeze("--gin.loop.log_every=3")  # replaces them all
