"""What holds for every file in `configs/`."""

import ast
import re
from pathlib import Path

import fiddle as fdl
import gin
import pytest
from fiddle import daglish

from runner import data, runtime
from runner.errors import UserError
from runner.graph import build, describe, read, to_json, to_python

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "configs").rglob("*.py"))
every_config = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def graph(path):
    cfg, _ = read.read(str(path))
    return cfg


def is_layout(path):
    """Whether it is there to be laid out, with data that hold shapes alone."""
    return data.PlannedTokens in callables(graph(path))


def callables(cfg):
    return {
        fdl.get_callable(node)
        for node, _ in daglish.iterate(cfg)
        if isinstance(node, fdl.Buildable)
    }


@every_config
def test_it_opens_with_its_command_its_time_and_its_result(path):
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    command = f"\n    runner --fdl_config={path.relative_to(ROOT)} "
    if is_layout(path):
        assert re.search(rf"{re.escape(command)}[^\n]*--dry_run\n", said)
        assert "Compiled, not run" in said
        return
    assert f"{command}--workdir=" in said
    if "result are not measured" in said:  # its data are not to be had here
        return
    assert re.search(r"\d+(\.\d+)? (s|min|h)\b", said), "no run time"
    assert re.search(r"\d\.\d+ nats|error of 0\.\d+", said), "no result"


@every_config
def test_it_is_saved_and_rebuilt_whole(path, tmp_path):
    cfg = graph(path)
    assert to_json.from_json(to_json.to_json(cfg), "config.json") == cfg
    (tmp_path / "config.py").write_text(to_python.to_python(cfg))
    assert describe.text(graph(tmp_path / "config.py")) == describe.text(cfg)


@every_config
def test_it_builds_without_data_or_devices(path):
    try:
        build.job(graph(path))
    except UserError as error:  # its teacher is yet to be trained, recorded, installed
        assert is_layout(path) or str(error).startswith(
            ("teacher: ", "train_data: package:", "train_data: no such directory")
        )


LAYOUTS = [path for path in PATHS if is_layout(path)]


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
def test_a_layout_has_shapes_for_a_dry_run_and_is_refused_as_a_run(path):
    assert build.job(graph(path), dry=True)
    with pytest.raises(UserError, match=r"^train_data: PlannedTokens holds no text"):
        build.job(graph(path))


def test_there_is_a_layout():
    assert [path.stem for path in LAYOUTS] == ["distill_70b"]


@every_config
def test_gin_reaches_nothing_in_it(path):
    for function in callables(graph(path)):
        with pytest.raises(ValueError):
            gin.get_configurable(function)


def test_gin_would_be_noticed():
    assert gin.get_configurable(runtime.Loop) is not None


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "configs" / "runtime").glob("*.gin")),
    ids=lambda path: path.stem,
)
def test_a_runtime_file_is_valid(path):
    from runner.cli import flags, gin_flags

    gin_flags.apply([flags.Flag("gin_file", str(path))])
    gin.clear_config()


HAVE_STEPS = [path for path in PATHS if "\ndef steps(" in path.read_text()]


@pytest.mark.parametrize("path", HAVE_STEPS, ids=lambda path: path.stem)
@pytest.mark.parametrize("count", [2, 20, 700])
def test_a_run_of_any_length_has_a_schedule_of_that_length(path, count):
    cfg, module = read.read(str(path))
    module.steps(cfg, count)
    rate = cfg.optimizer.learning_rate
    schedule = fdl.build(rate)
    peak = rate.peak_value
    assert schedule(rate.warmup_steps) == pytest.approx(peak)
    assert float(schedule(count)) < 0.2 * peak
