"""A wheel gives the commands and the configs, in an environment of its own."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SMALL = [
    "--fiddler=steps(2)",
    "--fdl.student.dim=32",
    "--fdl.student.num_layers=1",
    "--fdl.student.num_heads=2",
    "--fdl.batch_size=2",
    "--fdl.train_data.sequence_length=32",
    "--fdl.evaluations.held_out=None",
    "--gin_file=retort:cpu",
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The wheel of this tree, installed beside the dependencies of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True)
    for name in listed.splitlines():
        if not name.startswith(("tests/", "docs/", "findings/")):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "."]
    subprocess.run([*pip, *build, "--wheel-dir", folder], cwd=tree, check=True)
    shutil.rmtree(tree)

    environment = folder / "environment"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", environment], check=True
    )
    python = environment / "bin" / "python"
    [packages] = environment.glob("lib/*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    [wheel] = folder.glob("retort-*.whl")
    install = ["install", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, "--python", python, *install], check=True)
    return environment


def run(environment, *command, cwd):
    variables = {k: x for k, x in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [environment / "bin" / command[0], *command[1:]],
        cwd=cwd,
        env=variables,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wheel_gives_commands_and_configs(environment, tmp_path):
    where = "import runner, losses; print(runner.__file__, losses.__file__)"
    for place in run(environment, "python", "-c", where, cwd=tmp_path).split():
        assert Path(place).is_relative_to(environment)
    for command in ("runner", "runner-export", "runner-records", "runner-sample"):
        assert run(environment, command, "--help", cwd=tmp_path)
    changed = run(
        environment,
        "runner",
        "--fdl_config=retort:moe_zloss",
        "--diff=retort:moe",
        cwd=tmp_path,
    )
    assert "losses.z_loss.weight" in changed
    printed = run(
        environment, "runner", "--fdl_config=retort:dpo", "--print_config", cwd=tmp_path
    )
    assert "PreferencePairs" in printed
    run(
        environment,
        "runner",
        "--fdl_config=retort:dense",
        *SMALL,
        "--workdir=run",
        cwd=tmp_path,
    )
    assert (tmp_path / "run" / "report.html").is_file()
