"""`--list`, `--describe`, `--diff` of runs, and what `--help` names."""

import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import losses
from runner import main
from runner.cli import catalog, flags, help, lookups

ROOT = Path(__file__).parents[3]
SAMPLE = str(Path(__file__).parents[1] / "sample.py")
CONFIG = """\
import dataclasses

import fiddle as fdl

import losses
from runner.graph import job


@dataclasses.dataclass(frozen=True)
class Halved(losses.ZLoss):
    \"\"\"Half of the z-loss.\"\"\"


@dataclasses.dataclass(frozen=True)
class Job(job.Job):
    loss: losses.Loss

    def run(self, workdir):
        pass


def config():
    return fdl.Config(Job, fdl.Config(Halved))
"""


def answer(capsys, *arguments, code=0):
    assert main.main(["runner", *arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("losses", "losses.ZLoss", "`(log Σ_v exp s_v)²`, nats², one value per token."),
        ("weights", "losses.MatchValue", "`scale · sg("),
        ("models", "models.MoE", "`Σ_{e in top-k} p_e · expert_e(x)`"),
        ("models", "models.students.small_moe", "Return a Transformer"),
        ("teachers", "runner.OnlineTeacher", "A trained model"),
        ("data", "runner.data.TextFiles", "UTF-8 files"),
        ("optimizers", "runner.optimizers.adamw", "AdamW after clipping"),
        ("hooks", "runner.StepHook", "An action beside the steps of a run"),
        ("writers", "runner.RunWriter", "A place where a run's metrics go too"),
        ("jobs", "runner.Experiment", "A student, its teacher"),
        ("gin", "loop.log_every=10", "between two lines of metrics."),
    ],
)
def test_a_list_has_a_line_for_each_of_a_kind(capsys, kind, name, text):
    lines = answer(capsys, f"--list={kind}").splitlines()
    (line,) = [line for line in lines if line.split()[0] == name]
    assert text in line
    assert len({line.split()[0] for line in lines}) == len(lines)


def test_every_public_loss_is_listed(capsys):
    values = [getattr(losses, name) for name in losses.__all__]
    public = {
        f"losses.{value.__name__}"
        for value in values
        if isinstance(value, type)
        and issubclass(value, losses.Loss)
        and not getattr(value, "__abstractmethods__", ())
    }
    listed = [x.split()[0] for x in answer(capsys, "--list", "losses").splitlines()]
    assert listed == sorted(public, key=str.lower)


def test_a_loss_is_described_by_its_fields_formula_and_source(capsys):
    text = answer(capsys, "--describe=losses.ForwardKL")
    assert text.startswith("losses.ForwardKL\n\n`KL(p‖q)`, nats; mass-covering")
    assert "Source: Hinton et al. 2015 (arXiv:1503.02531), section 2." in text
    for field in dataclasses.fields(losses.ForwardKL):
        assert re.search(rf"\n  {field.name}: .* = .*\n      \w", text)
    assert "\n  temperature: float = 1.0\n      T, of both sides.\n" in text
    assert "\nUnit: nats\n" in text
    assert re.search(r"\nFile: losses/distillation/kl.py:\d+\n$", text)


@pytest.mark.parametrize("kind", lookups.KINDS)
def test_whatever_is_listed_is_described(capsys, kind):
    for line in answer(capsys, f"--list={kind}").splitlines():
        name = line.split()[0].partition("=")[0]
        assert name in answer(capsys, f"--describe={name}").splitlines()[0]


def test_a_config_file_adds_its_own(capsys, tmp_path):
    file = tmp_path / "halved.py"
    file.write_text(CONFIG)
    config = f"--fdl_config={file}"
    assert "halved.py:Halved" in answer(capsys, config, "--list=losses")
    text = answer(capsys, config, "--describe=Halved")
    assert "Half of the z-loss." in text


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--list=loss", "--list=loss: no such kind; did you mean 'losses'?"),
        ("--list", "--list needs a value: --list=losses"),
        ("--describe=losses.ZLos", "losses has no 'ZLos'; did you mean 'ZLoss'?"),
        ("--describe=losses", "losses is a module"),
    ],
)
def test_a_wrong_name_is_answered(capsys, flag, complaint):
    assert complaint in answer(capsys, flag, code=2)


WRONG = {
    "--list=loss": "no such kind; did you mean 'losses'?",
    "--describe=losses.ZLos": "losses has no 'ZLos'; did you mean 'ZLoss'?",
    "--describe=ForwardKl": "no name 'ForwardKl'; did you mean 'ForwardKL'?",
    "--describe=data.TextFile": "data has no 'TextFile'; did you mean 'TextFiles'?",
    "--describe=optimizers.adamv": "optimizers has no 'adamv'; did you mean 'adamw'?",
    "--describe=loop.log_evry": "loop has no 'log_evry'; did you mean 'log_every'?",
}
MISTAKES = """
import sys
from runner import main
for flag in sys.argv[1:]:
    assert main.main(["runner", flag]) == 2, flag
assert "jax" not in sys.modules
"""


def test_wrong_kinds_and_names_are_refused_before_jax_is_imported():
    assert (*catalog.KINDS, catalog.GIN) == lookups.KINDS
    ended = subprocess.run(
        [sys.executable, "-c", MISTAKES, *WRONG], stderr=subprocess.PIPE, text=True
    )
    lines = [f"runner: {flag}: {reason}" for flag, reason in WRONG.items()]
    assert ended.stderr.splitlines() == lines
    assert ended.returncode == 0


def test_diff_takes_work_directories_of_any_run(capsys, tmp_path):
    (tmp_path / "halved.py").write_text(CONFIG)
    runs = {}
    for name, graph in {
        "plain": f"--fdl_config={SAMPLE}:sized(3)",
        "five": f"--fdl_config={SAMPLE}:sized(5)",
        "own": f"--fdl_config={tmp_path}/halved.py",
    }.items():
        runs[name] = tmp_path / name
        answer(capsys, graph, f"--workdir={runs[name]}")
    plain, five, own = runs["plain"], runs["five"], runs["own"]
    steps = "- num_steps: 3\n+ num_steps: 5\n"
    assert answer(capsys, f"--workdir={five}", f"--diff={plain}") == steps
    assert answer(capsys, f"--workdir={five}", f"--diff={plain}/config.json") == steps
    assert answer(capsys, f"--fdl_config={SAMPLE}:sized(5)", f"--diff={plain}") == steps
    # A graph of somebody's file: told by its lines, without the file.
    (tmp_path / "halved.py").unlink()
    changes = answer(capsys, f"--workdir={plain}", f"--diff={own}")
    assert "- loss: halved.py:Halved\n" in changes
    assert "+ loss: halved" in answer(capsys, f"--workdir={own}", f"--diff={plain}")
    message = answer(capsys, f"--workdir={own}", f"--diff={tmp_path}", code=2)
    complaint = f"--diff={tmp_path}: holds no run (no config.json); there are runs in "
    assert complaint in message


def test_help_names_every_flag_and_every_command():
    for name in flags.NAMES:
        assert f"--{name}" in help.HELP, name
    for kind in lookups.KINDS:
        assert re.search(rf"\b{kind}\b", help.HELP), kind
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for command in project["scripts"]:
        assert re.search(rf"^ .*\b{command} ", help.HELP, flags=re.MULTILINE)
    for file in [*ROOT.glob("runner/**/__main__.py"), ROOT / "launch" / "__main__.py"]:
        package = ".".join(file.parent.relative_to(ROOT).parts)
        # The same as `runner-records`, and as `runner report`.
        if package not in ("runner.exchange", "runner.report"):
            assert f"python -m {package}" in help.HELP
    assert "runner report" in help.HELP
