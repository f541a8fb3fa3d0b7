"""Graphs that are settled at launch: no later edit, command or kill changes them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fiddle as fdl
import pytest

from runner import main, sweeps
from runner.cli import command_graph, flags
from runner.errors import UserError
from runner.graph import describe, read
from runner.sweeps import plan
from runner.workdir import lock
from tests.runner.runs import write_text

ROOT = Path(__file__).parents[3]
TINY = Path(__file__).parent / "tiny_config.py"
SAMPLE = Path(__file__).parents[1] / "sample.py"
RATE = "fdl.optimizer.learning_rate.peak_value"
Z_LOSS = "fdl.losses.z_loss.weight"


class Place:
    """A config file of one's own, a text, and commands about them."""

    def __init__(self, directory):
        self.directory = directory
        self.config = directory / "config.py"
        self.workdir = directory / "sweep"
        shutil.copy(TINY, self.config)
        write_text(directory / "text.txt")

    def flags(self, *more, sweep="rates(1e-3, 1e-2)"):
        said = [
            f"--fdl_config={self.config}",
            f"--fiddler=reads({str(self.directory / 'text.txt')!r})",
            f"--workdir={self.workdir}",
            *more,
        ]
        return [*said, f"--sweep={sweep}"] if sweep else said

    def freeze(self, *more, **kwargs):
        """As a process of its own would: a config file is read once a process."""
        for name in [n for n in sys.modules if n.startswith(f"file:{self.directory}")]:
            del sys.modules[name]
        arguments = self.flags(*more, **kwargs)
        return sweeps.freeze(flags.parse(arguments), ["runner", *arguments])

    def edit(self, old, new):
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def files(self):
        """Every file of the sweep by path, with its content."""
        found = sorted(p for p in self.workdir.rglob("*") if p.is_file())
        return {str(p): p.read_bytes() for p in found if p.name != "command.txt"}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def graph(unit):
    """What `runner` would run, as its lines."""
    cfg = command_graph.resolve(flags.parse(unit.arguments))
    return describe.lines(cfg)


def test_every_point_gets_a_work_directory_that_needs_no_config_file(place):
    frozen = place.freeze("--gin.loop.log_every=7", sweep="lr")
    assert [unit.name for unit in frozen.units][:2] == [
        "00-peak_value=0.001-z_loss.weight=0.0",
        "01-peak_value=0.001-z_loss.weight=0.0001",
    ]
    assert len(frozen.units) == 8 and frozen.name == "lr"
    place.config.unlink()
    for unit in frozen.units:
        lines = graph(unit)
        assert lines["optimizer.learning_rate.peak_value"] == repr(unit.point[RATE])
        assert lines["losses.z_loss.weight"] == repr(unit.point[Z_LOSS])
        assert json.loads((unit.path / "point.json").read_text()) == {
            key: repr(value) for key, value in unit.point.items()
        }
        assert unit.path.is_absolute() and not unit.finished
        assert unit.arguments == [
            f"--workdir={unit.path}",
            f"--gin_file={place.workdir / 'runtime.gin'}",
        ]
    assert sweeps.load(place.workdir) == frozen


def test_an_edit_after_the_freezing_reaches_nothing(place):
    first = place.freeze()
    before, graphs = place.files(), [graph(unit) for unit in first.units]
    place.edit("num_steps=30", "num_steps=99")
    place.edit("sweeps.values(RATE, *values)", "sweeps.values(RATE, 5.0)")
    assert place.freeze() == first
    assert place.files() == before
    assert [graph(unit) for unit in first.units] == graphs


def test_a_unit_refuses_another_graph_before_its_first_step(place, capsys):
    unit = place.freeze().units[0]
    before = place.files()
    other = [f for f in place.flags(sweep="") if not f.startswith("--workdir")]
    code = main.main(["runner", *other, f"--workdir={unit.path}", "--fdl.num_steps=1"])
    assert code == 2
    assert "- num_steps: 30\n+ num_steps: 1\n" in capsys.readouterr().err
    assert place.files() == before


@pytest.mark.parametrize(
    ("more", "sweep", "shown"),
    [
        ([], "rates(1e-3, 1e-1)", "- --sweep=rates(1e-3, 1e-2)\n+ --sweep=rates(1e-3"),
        (["--fdl.num_steps=2"], "rates(1e-3, 1e-2)", "--fdl.num_steps=2"),
        ([], "", "- --sweep=rates(1e-3, 1e-2)\n+ no --sweep"),
    ],
)
def test_another_command_is_refused_and_the_difference_shown(place, more, sweep, shown):
    place.freeze()
    before = place.files()
    with pytest.raises(UserError) as refused:
        place.freeze(*more, sweep=sweep)
    assert "was frozen from another command" in str(refused.value)
    assert shown in str(refused.value)
    assert place.files() == before


def test_gin_settings_may_change_and_stay_where_none_are_given(place):
    runtime = place.workdir / "runtime.gin"
    place.freeze(
        "--gin.loop.log_every=7", "--gin_bindings=mesh.rules={'mlp': ('data',)}"
    )
    assert "loop.log_every = 7" in runtime.read_text()
    first = runtime.read_text()
    place.freeze()
    assert runtime.read_text() == first
    place.freeze(f"--gin_file={runtime}", "--gin.loop.log_every=9")
    assert runtime.read_text() == first.replace("log_every = 7", "log_every = 9")


def test_a_command_without_a_sweep_is_one_unit(place):
    frozen = place.freeze(sweep="")
    (unit,) = frozen.units
    assert (frozen.name, unit.name, unit.point, unit.label) == ("", "00", {}, "")
    assert graph(unit)["num_steps"] == "30"


def test_a_freezing_that_was_killed_begins_anew(place, monkeypatch):
    written = []

    def killed(path, content):
        written.append(path)
        if path.name == "sweep.json":
            raise KeyboardInterrupt
        path.write_text(json.dumps(content))

    with monkeypatch.context() as patched:
        patched.setattr("runner.sweeps.freezing._write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            place.freeze()
    assert written[-1].name == "sweep.json"
    with pytest.raises(UserError, match="holds no sweep"):
        sweeps.load(place.workdir)
    place.edit("num_steps=30", "num_steps=31")
    frozen = place.freeze(sweep="rates(3.0)")
    assert [graph(unit)["num_steps"] for unit in frozen.units] == ["31"]
    assert len(list(place.workdir.glob("units/*"))) == 1


def with_sweep(directory, more=""):
    """A config whose graph names a class that the file itself defines."""
    path = directory / "own.py"
    points = '[{"fdl.num_steps": 3}, {"fiddler": "bigger(4)"}]'
    sizes = f"\n\ndef sizes():\n    return {points}\n"
    path.write_text(SAMPLE.read_text() + sizes + more)
    return path


def frozen_from(path, workdir, *more):
    argv = [f"--fdl_config={path}", "--sweep=sizes", f"--workdir={workdir}", *more]
    return sweeps.freeze(flags.parse(argv), ["runner", *argv])


@pytest.mark.slow
def test_a_config_that_its_graph_names_is_frozen_too(tmp_path):
    path = with_sweep(tmp_path)
    frozen = frozen_from(path, tmp_path / "sweep", "--fdl.ratio=0.25")
    assert (frozen.path / "source" / "own.py").read_text() == path.read_text()
    path.write_text(path.read_text().replace("num_steps=10", "num_steps=77"))
    shown = []
    for unit in frozen.units:  # in processes that have not read the file before
        ran = subprocess.run(
            [sys.executable, "-m", "runner.main", *unit.arguments, "--print_config"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == (unit.path / "config.txt").read_text()
        shown.append(ran.stdout)
    assert "num_steps: 3\n" in shown[0] and "num_steps: 40\n" in shown[1]
    assert all("<root>: own.py:Job\n" in s and "ratio: 0.25\n" in s for s in shown)


def test_a_config_that_depends_on_where_it_stands_is_refused(tmp_path):
    path = with_sweep(tmp_path, "\nPLACE = __file__\n")
    text = path.read_text().replace('options={"a": 1}', "options={__file__: 1}")
    path.write_text(text)
    with pytest.raises(UserError, match="makes another graph"):
        frozen_from(path, tmp_path / "sweep")
    assert not (tmp_path / "sweep" / "sweep.json").exists()
    path.write_text(text.replace("{__file__: 1}", "{}"))


def test_only_what_is_ours_is_a_sweeps_directory(place):
    place.workdir.mkdir()
    (place.workdir / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"but other files: thesis\.tex"):
        place.freeze()
    (place.workdir / "thesis.tex").rename(place.workdir / "config.json")
    with pytest.raises(UserError, match="holds a run; give the sweep another"):
        place.freeze()
    (place.workdir / "config.json").unlink()
    (place.workdir / "units" / "mine").mkdir(parents=True)
    (place.workdir / "units" / "mine" / "data.npy").write_text("")
    with pytest.raises(UserError, match=r"holds no sweep, but .*data\.npy"):
        place.freeze()
    assert (place.workdir / "units" / "mine" / "data.npy").exists()
    with pytest.raises(UserError, match="Not a directory"):
        place.workdir = place.config / "below"
        place.freeze()


def test_a_sweep_in_use_is_refused(place):
    place.freeze()
    with (
        lock.hold(place.workdir / "lock"),
        pytest.raises(UserError, match="in use by process"),
    ):
        place.freeze()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 1}', '{"version": 9}', '{"version": 1, "units"'],
)
def test_a_damaged_sweep_is_named(place, text):
    place.freeze()
    (place.workdir / "sweep.json").write_text(text)
    with pytest.raises(UserError, match=r"sweep\.json is damaged"):
        sweeps.load(place.workdir)


def test_a_short_name_means_one_place_of_the_graph():
    lines = describe.lines(read.read(f"{TINY}")[0])
    keys = [RATE, Z_LOSS, "fdl.losses[0].weight", "fdl_tag.DType", "fiddler"]
    assert plan.short_names(keys, lines) == {
        RATE: "peak_value",
        Z_LOSS: "z_loss.weight",
        "fdl.losses[0].weight": "losses[0].weight",
        "fdl_tag.DType": "DType",
        "fiddler": "fiddler",
    }


def test_values_come_back_as_they_were(tmp_path):
    path = with_sweep(tmp_path)
    path.write_text(
        path.read_text().replace(
            '[{"fdl.num_steps": 3}, {"fiddler": "bigger(4)"}]',
            '[{"fdl.source.shape": (1, 2)}, {"fdl.source.order": "shuffled"}]',
        )
    )
    units = frozen_from(path, tmp_path / "sweep").units
    assert [unit.point for unit in units] == [
        {"fdl.source.shape": (1, 2)},
        {"fdl.source.order": "shuffled"},
    ]
    assert [unit.name for unit in units] == ["00-shape=_1_-2_", "01-order=shuffled"]
    assert isinstance(
        command_graph.resolve(flags.parse(units[0].arguments)), fdl.Buildable
    )
