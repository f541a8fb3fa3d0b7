"""XManager's launch script: with a stand-in that records calls, and the real one.

The real one is not in the locked environment (extra `xm`): its test is skipped without.
"""

import importlib
import importlib.util
import os
import subprocess
import sys
import types

import pytest
from absl import flags

from tests.launch.stand_ins import ROOT, Sweep

_LAUNCH = [sys.executable, "-m", "xmanager.cli.cli", "launch", "launch/xm.py", "--"]
TINY = "tests/runner/sweeps/tiny_config.py"


class Experiment:
    """What `xm_local.create_experiment` gives; its jobs end as `ends` says."""

    def __init__(self, ends):
        self.ends, self.jobs, self.title = ends, [], ""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        # XManager says again what failed.
        if any(not end for end in self.ends.values()):
            raise RuntimeError("Process returned non-zero code: 1")

    def package(self, packageables):
        return packageables

    async def add(self, job):
        self.jobs.append(job)
        return types.SimpleNamespace(wait_until_complete=lambda: self._end(job))

    async def _end(self, job):
        if group := vars(job).get("process_0"):  # the first writes the results
            job = group
        if not self.ends.get(job.name[:2], True):
            raise importlib.import_module("xmanager.xm").ExperimentUnitError
        [workdir] = [a for a in job.args if a.startswith("--workdir=")]
        with open(workdir.partition("=")[2] + "/result.json", "w") as file:
            file.write('{"evaluations": {"held_out": {"loss": 4.0}}}')


@pytest.fixture
def experiment(monkeypatch):
    """The experiment that the stand-in makes."""
    made = Experiment({})

    def create(experiment_title):
        made.title = experiment_title
        return made

    record = types.SimpleNamespace
    modules = {
        "xmanager.xm": {
            **dict.fromkeys(("Job", "JobGroup", "Packageable", "Binary"), record),
            "SequentialArgs": record(from_collection=list),
            "ExperimentUnitError": type("ExperimentUnitError", (Exception,), {}),
        },
        "xmanager.xm_local": {
            "create_experiment": create,
            "Local": type("Local", (), {"Spec": record}),
        },
        "xmanager": {},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("xm", "xm_local"):
        vars(sys.modules["xmanager"])[name] = sys.modules[f"xmanager.{name}"]
    before = set(flags.FLAGS)
    yield made
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def launched(monkeypatch, *arguments):
    """The exit code of the script under `xmanager launch launch/xm.py -- ...`."""
    argv = ["xmanager", "launch", "launch/xm.py", "--", *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    # It reads argv when it is imported, as XManager does once.
    sys.modules.pop("launch.xm", None)
    for name in set(flags.FLAGS) & {a.split("=")[0].strip("-") for a in arguments}:
        if flags.FLAGS[name].help.startswith("a flag of the runner"):
            delattr(flags.FLAGS, name)
    script = importlib.import_module("launch.xm")
    try:
        script.main(["launch/xm.py"])
    except SystemExit as end:
        return end.code
    return 0


def test_each_unit_is_a_job_that_runs_the_runner(tmp_path, experiment, monkeypatch):
    sweep = Sweep(tmp_path)
    assert launched(monkeypatch, f"--workdir={sweep.path}") == 0
    assert experiment.title == "sweep"
    assert [job.name for job in experiment.jobs] == ["00-a=0", "01-a=1", "02-a=2"]
    job = experiment.jobs[0]
    assert job.args[-4:] == [
        sys.executable,
        "-m",
        "runner.main",
        f"--workdir={sweep.units[0].path}",
    ]
    assert job.executable.executable_spec.path == sys.executable
    assert job.args[2].endswith("launch/leash.py")


def test_processes_of_a_unit_are_the_jobs_of_one_work_unit(
    tmp_path, experiment, monkeypatch
):
    sweep = Sweep(tmp_path)
    options = ("--processes=2", "--devices=4", f"--workdir={sweep.path}")
    assert launched(monkeypatch, *options) == 0
    assert len(experiment.jobs) == 3
    group = vars(experiment.jobs[1])
    assert [job.name for job in group.values()] == ["01-a=1", "01-a=1-1"]
    unit = f"--workdir={sweep.units[1].path}"
    addresses = set()
    for number, job in enumerate(group.values()):
        assert job.args[2].endswith("launch/leash.py")
        assert job.args[-4] == unit
        address, *others = job.args[-3:]
        addresses.add(address)
        assert others == [
            "--gin.distributed.processes=2",
            f"--gin.distributed.process={number}",
        ]
        first = 4 * number
        seen = ",".join(map(str, range(first, first + 4)))
        assert job.env_vars == {"CUDA_VISIBLE_DEVICES": seen}
    [address] = addresses
    assert address.startswith("--gin.distributed.coordinator=127.0.0.1:")


def test_a_wrong_number_of_processes_is_one_line(
    tmp_path, experiment, monkeypatch, capfd
):
    workdir = f"--workdir={Sweep(tmp_path).path}"
    for option, line in (
        ("--processes=0", "--processes must be at least 1, got 0"),
        ("--processes=two", "--processes must be a whole number, got 'two'"),
    ):
        assert launched(monkeypatch, option, workdir) == 2
        assert capfd.readouterr().err == f"launch: {line}\n"
    assert experiment.jobs == []


def test_finished_units_get_no_job(tmp_path, experiment, monkeypatch, capfd):
    sweep = Sweep(tmp_path)
    experiment.ends["01"] = False
    assert launched(monkeypatch, f"--workdir={sweep.path}") == 1
    said, warned = capfd.readouterr()
    assert "nats/token" in said
    assert warned == "launch: not finished: 01-a=1\n"
    experiment.ends.clear()
    experiment.jobs.clear()
    assert launched(monkeypatch, f"--workdir={sweep.path}") == 0
    assert [job.name for job in experiment.jobs] == ["01-a=1"]
    assert "00-a=0: finished\n" in capfd.readouterr().out


def test_a_mistake_is_one_line_and_makes_no_experiment(
    tmp_path, experiment, monkeypatch, capfd
):
    workdir = f"--workdir={tmp_path / 'new'}"
    config = f"--fdl_config={TINY}"
    assert launched(monkeypatch, config, workdir, "--sweep=lrr") == 2
    said = capfd.readouterr().err
    assert said.startswith("launch: --sweep=lrr: ") and said.count("\n") == 1
    assert launched(monkeypatch, config, "--wrkdir=x") == 2
    assert "did you mean 'workdir'?" in capfd.readouterr().err
    assert experiment.jobs == [] and not (tmp_path / "new").exists()


def test_flags_of_the_runner_are_declared_to_absl_and_absls_own_are_kept(
    tmp_path, experiment, monkeypatch
):
    names = ("--fdl.losses.z_loss.weight=0", "--fdl.losses[0].weight=1", "--gin.a.b=c")
    launched(monkeypatch, "--verbosity=1", *names, "--workdir", str(tmp_path / "x"))
    script = sys.modules["launch.xm"]
    assert script.ours(sys.argv) == [*names, "--workdir", str(tmp_path / "x")]
    for name in names:
        assert name.partition("=")[0].removeprefix("--") in flags.FLAGS


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("xmanager") is None, reason="the extra xm is not installed"
)
@pytest.mark.parametrize("options", [(), ("--processes=2",)], ids=["one", "two"])
def test_the_real_xmanager_runs_units_as_processes(tmp_path, options):
    (tmp_path / "text.txt").write_text((ROOT / "README.md").read_text())
    arguments = [
        *options,
        f"--fdl_config={TINY}",
        f"--fiddler=reads({str(tmp_path / 'text.txt')!r})",
        "--sweep=rates(1e-3, 1e-2)",
        "--fdl.num_steps=2",
        f"--workdir={tmp_path / 'sweep'}",
        "--gin.loop.quiet=True",
    ]
    for said in ("[01-peak_value=0.01] step", "01-peak_value=0.01: finished"):
        ran = subprocess.run(
            [*_LAUNCH, *arguments],
            cwd=ROOT,
            env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert said in ran.stdout
    assert len(list(tmp_path.glob("sweep/units/*/result.json"))) == 2
