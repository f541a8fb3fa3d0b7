"""The command line from argv to exit code. Every mistake: `mistakes_test.py`."""

import os
import subprocess
import sys
from pathlib import Path

import gin
import pytest

from runner import main, runtime
from runner.graph import to_json

ROOT = Path(__file__).parents[2]
SAMPLE = f"--fdl_config={Path(__file__).parent / 'sample.py'}"


@pytest.fixture(autouse=True)
def _no_bindings():
    yield
    gin.clear_config()


def answer(capsys, *arguments):
    """Standard output of a command that must succeed."""
    code = main.main(["runner", *arguments])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out


def child(code, **environment):
    return subprocess.run(
        [sys.executable, *code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_fits_one_screen(capsys):
    lines = answer(capsys, "--help").splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 88
    for flag in ("fdl_config", "fdl.", "fdl_tag.", "fiddler", "gin.", "gin_file"):
        assert any(f"--{flag}" in line for line in lines)


def test_help_wins_over_everything_else(capsys):
    assert answer(capsys, "--workdir=x", "-h") == answer(capsys, "--help")


def test_help_and_mistakes_import_nothing_heavy():
    code = (
        "import sys, runner.main as m\n"
        "m.main(['runner', '--help']); m.main(['runner', '--workdri=x'])\n"
        "heavy = {'jax', 'flax', 'fiddle', 'numpy', 'gin'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert child(["-c", code]).returncode == 0


def test_version_names_the_libraries(capsys):
    said = answer(capsys, "--version")
    assert said.startswith("retort ") and "jax " in said and "python " in said


def test_print_config_prints_the_graph_as_overridden(capsys):
    said = answer(capsys, SAMPLE, "--print_config", "--fdl.num_steps", "7")
    assert "num_steps: 7\n" in said
    assert "losses.z_loss.loss: losses.ZLoss\n" in said


def test_the_order_on_the_command_line_is_the_order_of_application(capsys):
    first = answer(
        capsys, SAMPLE, "--fdl.num_steps=3", "--fiddler=bigger", "--print_config"
    )
    last = answer(
        capsys, "--fiddler", "bigger", "--fdl.num_steps=3", SAMPLE, "--print_config"
    )
    assert "num_steps: 6\n" in first and "num_steps: 3\n" in last


def test_diff_shows_what_changes_and_nothing_else(capsys):
    other = SAMPLE.replace("fdl_config", "diff")
    assert answer(capsys, SAMPLE, other) == ""
    assert answer(capsys, SAMPLE, other, "--fdl.num_steps=11") == (
        "- num_steps: 10\n+ num_steps: 11\n"
    )


def test_another_function_of_the_file_and_its_arguments(capsys):
    said = answer(capsys, f"{SAMPLE}:sized(num_steps=4)", "--print_config")
    assert "num_steps: 4\n" in said


def test_graph_is_drawn(capsys, tmp_path):
    path = tmp_path / "graph.svg"
    assert answer(capsys, SAMPLE, f"--graph={path}") == f"{path}\n"
    assert "losses.ZLoss" in path.read_text()


def test_a_saved_graph_is_a_base_and_can_be_overridden(capsys, tmp_path):
    from runner.graph import read

    cfg, _ = read.read(SAMPLE.removeprefix("--fdl_config="))
    path = tmp_path / "graph.json"
    path.write_text(to_json.to_json(cfg))
    flag = f"--fdl_config_file={path}"
    assert answer(capsys, flag, SAMPLE.replace("fdl_config", "diff")) == ""
    said = answer(capsys, flag, "--fdl.losses[0].weight=2", "--print_config")
    assert "losses.ce.weight: 2.0\n" in said


def test_a_work_directory_alone_is_its_graph(capsys, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    answer(capsys, SAMPLE, "--fdl.num_steps=5", workdir)
    assert "num_steps: 5\n" in answer(capsys, workdir, "--print_config")
    answer(capsys, workdir)


def test_the_runtime_is_bound_from_left_to_right(capsys, tmp_path):
    file = tmp_path / "a.gin"
    file.write_text("# comment\nloop.log_every = 3\nmesh:\n  data = 2\n  tensor = 4\n")
    outer = tmp_path / "b.gin"
    outer.write_text("include 'a.gin'\nloop.checkpoint_every = 9\n")
    log = "--gin.loop.log_every=5"
    both = ["--gin_bindings=step.remat = 'full'", "--gin.input.cache=/tmp/x"]
    answer(capsys, SAMPLE, "--print_config", log, f"--gin_file={outer}", *both)
    now = runtime.current()
    assert (now.loop.log_every, now.loop.checkpoint_every) == (3, 9)
    assert (now.mesh.data, now.mesh.tensor) == (2, 4)
    assert (now.step.remat, now.input.cache) == ("full", "/tmp/x")
    answer(capsys, SAMPLE, "--print_config", f"--gin_file={file}", log)
    assert runtime.current().loop.log_every == 5
    assert runtime.current().loop.checkpoint_every == runtime.Loop().checkpoint_every


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("runner.cli.flags.parse", interrupted)
    assert main.main(["runner"]) == 130
    assert capsys.readouterr().err == "runner: interrupted\n"


def test_a_bug_keeps_its_traceback():
    code = (
        "import sys, runner.main as m\n"
        "from runner.graph import describe\n"
        "describe.text = lambda cfg: 1 / 0\n"
        f"sys.exit(m.main(['runner', {SAMPLE!r}, '--print_config']))"
    )
    finished = child(["-c", code])
    assert finished.returncode == 1
    assert "ZeroDivisionError" in finished.stderr.splitlines()[-1]


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m runner.main {SAMPLE} --print_config | true"
    assert child(["-c", f"import os; os.system({command!r})"]).stderr == ""


@pytest.mark.parametrize("home", ["losses", "models"])
def test_a_foreign_package_is_named(tmp_path, home):
    (tmp_path / home).mkdir()
    (tmp_path / home / "__init__.py").write_text("")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\n"
        "import runner.main as m\n"
        f"sys.exit(m.main(['runner', {SAMPLE!r}, '--print_config']))"
    )
    finished = child(["-c", code])
    assert finished.returncode == 2
    assert finished.stderr == (
        f"runner: package '{home}' is a foreign one, {tmp_path / home}; "
        f"expected {ROOT / home}\n"
    )
