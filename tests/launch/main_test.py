"""The command line of `python -m launch`: what it says, freezes and hands over."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from launch import __main__ as cli
from launch import targets
from tests.launch.stand_ins import ROOT, Sweep

MOE = "--fdl_config=configs/moe.py"
JOBSET = "--image=i --volume=c:/shared"
XPK = "--cluster=c --image=i --accelerators=v5litepod-16"


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def main(*arguments):
    return cli.main(["launch", *arguments])


def test_help_fits_a_screen_and_names_every_option(capsys):
    assert main("--help") == main("local", "--help") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 88
    for name, target in targets.TARGETS.items():
        assert f"\n{name} " in text
        for field in dataclasses.fields(target.options):
            assert f"--{field.name}" in text, f"{name} --{field.name}"


def test_help_and_mistakes_wake_neither_jax_nor_fiddle():
    code = (
        "import sys, launch.__main__ as m\n"
        "m.main(['launch', '--help']); m.main(['launch', 'locl', '--', 'x'])\n"
        "heavy = {'jax', 'flax', 'numpy', 'gin', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert run.returncode == 0


@pytest.mark.parametrize(
    "line, wanted",
    [
        ("locl -- --workdir=x", "no target 'locl'; did you mean 'local'?"),
        ("-- --workdir=x", "no target is given; one of: jobset, local,"),
        ("local", "nothing to launch; give the flags of the run after --"),
        ("local --", "nothing to launch"),
        ("local --paralel=2 -- W", "no option --paralel; did you mean 'parallel'?"),
        ("local --parallel=0 -- W", "--parallel must be at least 1, got 0"),
        ("local --parallel=two -- W", "--parallel must be a whole number, got 'two'"),
        ("local --parallel -- W", "--parallel needs a value: --parallel=VALUE"),
        ("local --processes=1 --processes=2 -- W", "--processes is given more than"),
        ("local --render_only=yes -- W", "--render_only takes no value, got 'yes'"),
        ("local --processes=0 -- W", "--processes must be at least 1, got 0"),
        ("local --env=A -- W", "--env=A: expected KEY=VALUE"),
        ("local --env=a-b=1 -- W", "--env=a-b=1: expected KEY=VALUE"),
        ("local now -- W", "unexpected 'now'; expected --NAME=VALUE"),
        ("local --fdl_config=a.py", "--fdl_config is of the run, and stands behind --"),
        ("slurm --gin.a.b=1 -- W", "--gin.a.b is of the run, and stands behind --"),
        ("local -- W --dry_run", "--dry_run does not run anything"),
        ("local -- --fdl_config=configs/moe.py", "give --workdir=DIR"),
        ("local -- W --swep=lr", "unknown flag --swep; did you mean 'sweep'?"),
        ("local -- W --sweep=lr", "--sweep=lr: "),
        ("jobset -- W", "jobset needs --image=REGISTRY/retort:TAG"),
        ("jobset --image=i --volume=c -- W", "--volume=c: expected CLAIM:/PATH"),
        (f"jobset {JOBSET} -- W", "is not below /shared, so that no pod would see it"),
        (
            "jobset --image=i --volume=c:/ --node_selector=a -- W",
            "--node_selector=a: expected KEY=VALUE",
        ),
        (f"xpk {XPK} --processes=2 -- W", "xpk takes neither --processes nor"),
        ("skypilot --image=i -- W", "skypilot needs --bucket=s3://NAME"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(line, wanted, tmp_path, capsys):
    workdir = tmp_path / "new"
    arguments = []
    for word in line.split():
        arguments += [MOE, f"--workdir={workdir}"] if word == "W" else [word]
    assert main(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("launch: ") and wanted in said
    assert said.count("\n") <= 3
    assert not workdir.exists()


def test_render_only_prints_and_submits_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(targets, "submit", None)
    sweep = Sweep(tmp_path)
    before = sorted(sweep.path.rglob("*"))
    assert main("slurm", "--render_only", "--", f"--workdir={sweep.path}") == 0
    text = capsys.readouterr().out
    assert text.startswith("#!/bin/bash\n#SBATCH --job-name=sweep\n")
    assert f"#SBATCH --chdir={ROOT}\n" in text and "--array=0-2" in text
    assert sys.executable in text
    changed = set(sweep.path.rglob("*")) - set(before)
    assert {path.name for path in changed} <= {"lock"}


def stand_in(folder, name, code=0):
    program = folder / name
    program.write_text(f'#!/bin/sh\necho {name} "$@" >> {folder}/called\nexit {code}\n')
    program.chmod(0o755)


@pytest.mark.parametrize(
    "target, options, program, wanted",
    [
        ("slurm", "", "sbatch", ["sbatch {sweep}/slurm.sh"]),
        (
            "jobset",
            "--image=i --volume=c:/",
            "kubectl",
            ["kubectl apply --filename={sweep}/jobset.yaml"],
        ),
        (
            "skypilot",
            "--image=i --bucket=s3://b",
            "sky",
            [
                f"sky jobs launch --yes --detach-run --name=sweep-{n:02d} "
                f"--env=SWEEP_UNIT={n} {{sweep}}/skypilot.yaml"
                for n in (0, 2)
            ],
        ),
    ],
)
def test_a_scheduler_is_handed_what_was_rendered(
    target, options, program, wanted, tmp_path, monkeypatch
):
    sweep = Sweep(tmp_path / "runs")
    (sweep.units[1].path / "result.json").write_text("{}")
    stand_in(tmp_path, program)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert main(target, *options.split(), "--", f"--workdir={sweep.path}") == 0
    called = (tmp_path / "called").read_text().splitlines()
    assert called == [line.format(sweep=sweep.path) for line in wanted]
    assert Path(called[0].split("=")[-1].split()[-1]).exists()


def test_xpk_is_called_for_each_unit(tmp_path, monkeypatch):
    sweep = Sweep(tmp_path / "runs")
    stand_in(tmp_path, "xpk")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert main("xpk", *XPK.split(), "--", f"--workdir={sweep.path}") == 0
    called = (tmp_path / "called").read_text()
    assert called.count("xpk workload create --workload=sweep-0") == 3


def test_a_scheduler_that_is_not_there_is_named_and_the_text_is_kept(
    tmp_path, monkeypatch, capsys
):
    sweep = Sweep(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert main("slurm", "--", f"--workdir={sweep.path}") == 2
    assert "sbatch is not on this machine" in capsys.readouterr().err
    assert (sweep.path / "slurm.sh").exists()


def test_what_a_scheduler_refuses_is_passed_on(tmp_path, monkeypatch):
    sweep = Sweep(tmp_path / "runs")
    stand_in(tmp_path, "sbatch", code=5)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert main("slurm", "--", f"--workdir={sweep.path}") == 5


def test_a_config_is_frozen_at_launch(tmp_path, capsys):
    workdir = f"--workdir={tmp_path / 'run'}"
    assert main("local", "--render_only", "--", MOE, workdir) == 0
    [unit] = tmp_path.glob("run/units/*")
    assert (unit / "config.json").exists()
    assert f"--workdir={unit}\n" in capsys.readouterr().out
