"""Modules of others in graphs: resumed by the run's own record, or by `--trust`."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from runner import main, sweeps
from runner.cli import admission, flags
from runner.errors import UserError
from runner.files import signature, trusted
from runner.graph import overrides, read, to_json
from runner.graph.overrides import Set
from tests.runner.graph.hostile import REFUSED

OWN = """\
import dataclasses
from pathlib import Path

import losses

Path(__file__).with_name("imported").touch()


@dataclasses.dataclass(frozen=True)
class Source:
    rows: int = 3


def half(step):
    return 0.5
"""
CONFIG = """\
import dataclasses
from typing import Any

import fiddle as fdl
import ownpackage

from runner.graph import job


@dataclasses.dataclass(frozen=True)
class Job(job.Job):
    source: Any
    schedule: Any = None

    def run(self, workdir):
        print(self.source.rows, self.schedule(0), workdir.go_on)


def config():
    return fdl.Config(Job, fdl.Config(ownpackage.Source), ownpackage.half)


def sizes():
    return [{"fdl.source": f"ownpackage.Source(rows={rows})"} for rows in (4, 5)]
"""


REFUSAL = (
    "'ownpackage.Source' may not stand in a saved graph; expected losses, models, "
    "optax, jax.nn or public names of runner\n"
    "where you trust that package: --trust=ownpackage\n"
)


class Place:
    """A config file with a package beside it, and a run of it."""

    def __init__(self, directory):
        self.config, self.run = directory / "own_config.py", directory / "run"
        (directory / "ownpackage").mkdir()
        (directory / "ownpackage" / "__init__.py").write_text(OWN)
        self.config.write_text(CONFIG)
        self.imported = directory / "ownpackage" / "imported"


def forget():
    """As in a new process: nothing of the place is imported."""
    trusted.admit_none()
    for name in list(sys.modules):
        if name.startswith("file:") or name == "ownpackage":
            del sys.modules[name]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield Place(tmp_path)
    forget()


def answer(capsys, monkeypatch, *arguments, code=0):
    """What a command of a new process says."""
    forget()
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "pytest-of" not in p])
    assert main.main(["runner", *map(str, arguments)]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


@pytest.fixture
def say(place, capsys, monkeypatch):
    def run(*arguments, code=0):
        return answer(capsys, monkeypatch, *arguments, code=code)

    said = run(f"--fdl_config={place.config}", f"--workdir={place.run}")
    assert said == f"3 0.5 runner --workdir={place.run}\n"
    place.imported.unlink()
    return run


def test_a_run_goes_on_by_its_directory_alone(place, say):
    assert say(f"--workdir={place.run}") == f"3 0.5 runner --workdir={place.run}\n"
    record = json.loads((place.run / "modules.json").read_text())
    assert record["modules"] == [f"file:{place.config}", "ownpackage"]
    assert str(place.config.parent) in record["path"]


def test_a_directory_from_a_stranger_imports_nothing(place, say, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(place.run.parent / "another"))
    monkeypatch.syspath_prepend(str(place.config.parent))
    error = say(f"--workdir={place.run}", code=2)
    assert REFUSAL in error
    assert not place.imported.exists()


def test_a_package_of_a_stranger_is_trusted_by_its_name(place, say, monkeypatch):
    (place.config.parent / "ownjob.py").write_text(CONFIG)
    saved = place.run / "config.json"
    saved.write_text(saved.read_text().replace(f"file:{place.config}", "ownjob"))
    assert REFUSAL in say(f"--workdir={place.run}", code=2)
    assert not place.imported.exists()
    # Python finds both, as with PYTHONPATH.
    parse = flags.parse

    def on_path(arguments):
        sys.path.append(str(place.config.parent))
        return parse(arguments)

    monkeypatch.setattr(flags, "parse", on_path)
    one, both = ["--trust=ownpackage"], ["--trust=ownpackage", "--trust=ownjob"]
    error = say(f"--workdir={place.run}", *one, code=2)
    assert error.endswith("where you trust that package: --trust=ownjob\n")
    assert "source.rows: 3\n" in say(f"--workdir={place.run}", *both, "--print_config")


@pytest.mark.parametrize("key", ["modules", "path", "signature"])
def test_a_record_that_was_edited_is_none(place, say, key):
    path = place.run / "modules.json"
    record = json.loads(path.read_text())
    record[key] = record[key][:-1]
    path.write_text(json.dumps(record))
    assert REFUSAL in say(f"--workdir={place.run}", code=2)


def test_a_record_holds_for_its_own_graph_alone(place, say):
    other = place.run.with_name("other")
    shutil.copytree(place.run, other)
    assert trusted.read(other) is not None
    path = other / "config.json"
    path.write_text(path.read_text() + "\n")
    assert trusted.read(other) is None
    assert REFUSAL in say(f"--workdir={other}", code=2)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"modules": 3}', "[" * 10000])
def test_a_damaged_record_is_none(place, say, content):
    (place.run / "modules.json").write_text(content)
    assert trusted.read(place.run) is None


@pytest.mark.parametrize(("module", "name"), REFUSED)
def test_a_record_of_a_stranger_allows_nothing(tmp_path, module, name):
    text = json.dumps(
        {"root": {"type": "pyref", "module": module, "name": name}, "objects": {}}
    )
    (tmp_path / "config.json").write_text(text)
    record = trusted.Record([module], ["/"], "0" * 64)
    (tmp_path / "modules.json").write_text(json.dumps(record.__dict__))
    with pytest.raises(UserError):
        to_json.load(str(tmp_path / "config.json"))


def test_units_of_a_sweep_find_what_lies_beside_the_config_file(place, say):
    forget()
    sweep = place.run.with_name("sweep")
    command = [f"--fdl_config={place.config}", "--sweep=sizes", f"--workdir={sweep}"]
    frozen = sweeps.freeze(flags.parse(command), ["runner"])
    rows = [say(*unit.arguments).split()[0] for unit in frozen.units]
    assert rows == ["4", "5"]


def test_without_a_key_the_whole_command_goes_on(place, capsys, monkeypatch):
    monkeypatch.setattr(signature, "_key", lambda: None)
    command = [f"--fdl_config={place.config}", f"--workdir={place.run}"]
    said = answer(capsys, monkeypatch, *command)
    assert said == f"3 0.5 runner {' '.join(command)}\n"
    assert not (place.run / "modules.json").exists()
    assert answer(capsys, monkeypatch, *command) == said


def test_a_command_that_names_the_file_records_it_anew(place, say):
    (place.run / "modules.json").unlink()
    assert REFUSAL in say(f"--workdir={place.run}", code=2)
    say(f"--fdl_config={place.config}", f"--workdir={place.run}")
    say(f"--workdir={place.run}")


def test_what_cannot_be_imported_any_more_is_said(place, say):
    (place.config.parent / "ownpackage" / "__init__.py").write_text("import nothere\n")
    error = say(f"--workdir={place.run}", code=2)
    assert "own_config.py:5: ModuleNotFoundError: No module named 'nothere'" in error


def test_modules_of_python_are_never_trusted(place, say):
    error = say(f"--workdir={place.run}", "--trust=os", code=2)
    assert "--trust=os: a module of Python itself is never trusted" in error
    assert flags.parse(["--workdir=x", "--trust"]).trust
    assert flags.parse(["--workdir=x", "--trust=a", "--trust=b"]).packages == ("a", "b")


def test_flags_name_what_lies_beside_the_config_file(place, say):
    forget()
    cfg, module = read.read(str(place.config))
    new = overrides.apply(
        cfg, [Set("source", "ownpackage.Source(rows=5)")], module=module
    )
    assert new.source.rows == 5
    with pytest.raises(UserError, match="no name 'ownpackage'"):
        overrides.apply(cfg, [Set("source", "ownpackage.Source(rows=5)")])
    trusted.admit(["ownpackage"])
    new = overrides.apply(cfg, [Set("source", "ownpackage.Source(rows=6)")])
    assert new.source.rows == 6


def test_a_command_admits_nothing_of_an_earlier_one_of_its_process():
    admission.admit(flags.Command(packages=("ownpackage",)))
    assert trusted.packages() == {"ownpackage"}
    admission.admit(flags.Command())
    assert not trusted.packages()


def test_a_key_is_made_once_and_read_by_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    signed = signature.sign(b"a")
    assert signed is not None and len(signed) == 64
    assert signature.verifies(b"a", signed) and not signature.verifies(b"b", signed)
    assert not signature.verifies(b"a", "é")
    (key,) = Path(tmp_path / "retort").iterdir()
    assert key.stat().st_mode & 0o077 == 0
    assert signature.sign(b"a") == signed
    key.write_bytes(b"short")
    assert signature.sign(b"a") is None
