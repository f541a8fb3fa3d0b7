"""Seeds as an axis of a sweep."""

import json
from types import SimpleNamespace

import pytest

from runner import sweeps
from runner.cli import flags
from runner.errors import UserError
from runner.sweeps import plan, points, seeds, settings
from tests.runner.report.pages import Page
from tests.runner.sweeps.sweeps import Z_LOSS, made

NAMES = {Z_LOSS: "z_loss.weight", seeds.KEY: "seed"}
TINY = "--fdl_config=tests/runner/sweeps/tiny_config.py"
ENDS = [4.30, 4.36, 4.28, 4.21, 4.25, 4.20]


def command(*arguments):
    return flags.parse([TINY, "--workdir=x", *arguments])


def sweep(directory, ends=ENDS, baseline=""):
    """Two weights of the z-loss at three seeds."""
    pairs = points.product(
        points.values(Z_LOSS, 0.0, 1e-4), points.values(seeds.KEY, 0, 1, 2)
    )
    frozen = made(directory, list(zip(pairs, ends, strict=True)), names=NAMES)
    path = frozen.path / "sweep.json"
    content = json.loads(path.read_text())
    content["said"]["baseline"] = baseline
    path.write_text(json.dumps(content))
    return sweeps.load(frozen.path)


def test_every_point_is_run_at_every_seed():
    rates = points.values(Z_LOSS, 0.0, 1e-4)
    all_points = seeds.over(rates, 3, 2)
    assert [(p[Z_LOSS], p[seeds.KEY]) for p in all_points] == [
        (0.0, 3),
        (0.0, 4),
        (1e-4, 3),
        (1e-4, 4),
    ]
    assert seeds.over([], 0, 2) == [{seeds.KEY: 0}, {seeds.KEY: 1}]
    with pytest.raises(UserError, match=r"two parts set fdl\.seed"):
        seeds.over(all_points, 0, 2)


def test_seeds_alone_are_a_sweep(monkeypatch):
    monkeypatch.setattr(plan.build, "job", lambda graph: None)
    units = plan.make(command("--seeds=3", "--fdl.seed=5")).units
    assert [unit.graph.seed for unit in units] == [5, 6, 7]
    assert [unit.label for unit in units] == ["seed=5", "seed=6", "seed=7"]
    swept = "--sweep=rates(1e-3, 1e-2)"
    both = plan.make(command("--seeds=2", swept, "--baseline=0.01")).units
    assert [unit.label for unit in both] == [
        "peak_value=0.001 seed=0",
        "peak_value=0.001 seed=1",
        "peak_value=0.01 seed=0",
        "peak_value=0.01 seed=1",
    ]
    with pytest.raises(UserError, match=r"--baseline=0.1: no such setting; .*0\.01"):
        plan.make(command("--seeds=2", swept, "--baseline=0.1"))
    with pytest.raises(UserError, match="--baseline=value: several settings"):
        plan.make(command("--seeds=2", swept, "--baseline=value"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--seeds=1"], "--seeds=1: expected a number from 2 to 1000"),
        (["--seeds=x"], "--seeds=x: expected a number"),
        (["--baseline=a"], "--baseline=a compares settings over seeds; give --seeds=5"),
        (["--seeds=3", "--dry_run"], "looks at one graph, not at a sweep"),
    ],
)
def test_wrong_flags_are_answered(arguments, complaint):
    with pytest.raises(UserError, match=complaint):
        command(*arguments)


def test_the_terminal_page_and_files_hold_the_comparison(tmp_path, capsys):
    sweeps.summarize(sweep(tmp_path))
    output = capsys.readouterr().out
    assert "  held_out/loss, baseline z_loss.weight=0.0\n" in output
    (line,) = [x for x in output.splitlines() if "z_loss.weight=0.0001 *" in x]
    assert line.split()[2:5] == ["3", "4.2200", "0.0265"]
    assert "-0.0933" in line
    assert not any(x.startswith(">") for x in output.splitlines())
    assert "## held_out/loss, baseline" in (tmp_path / "sweep.md").read_text()
    page = Page((tmp_path / "report.html").read_text())
    assert "z_loss.weight=0.0001 *" in page.text
    evidence = json.loads((tmp_path / "results.json").read_text())["evidence"]
    assert [row["count"] for row in evidence] == [3, 3]
    assert evidence[1]["difference_mean"] == pytest.approx(-0.28 / 3)
    assert (tmp_path / "evidence.csv").read_text().count("\n") == 3
    assert r"\begin{tabular}" in (tmp_path / "evidence.tex").read_text()


def test_a_baseline_is_named(tmp_path, capsys):
    sweeps.summarize(sweep(tmp_path, baseline="z_loss.weight=0.0001"))
    output = capsys.readouterr().out
    assert "  held_out/loss, baseline z_loss.weight=0.0001\n" in output
    assert "+0.0933" in output


def test_seeds_that_failed_or_wait_are_left_out(tmp_path, capsys):
    ends = [4.30, "failed", 4.28, None, 4.25, float("nan")]
    sweeps.summarize(sweep(tmp_path, ends))
    lines = capsys.readouterr().out.splitlines()
    counts = [x.split()[1] for x in lines if x.startswith("    z_loss.weight=")]
    assert counts == ["2", "1"]


def test_a_sweep_without_seeds_compares_nothing(tmp_path, capsys):
    pairs = points.values(Z_LOSS, 0.0, 1e-4)
    names = {Z_LOSS: "z_loss.weight"}
    sweeps.summarize(
        made(tmp_path, list(zip(pairs, [4.0, 5.0], strict=True)), names=names)
    )
    assert "baseline" not in capsys.readouterr().out
    assert not (tmp_path / "evidence.csv").exists()


def test_a_picture_has_the_setting_along_its_foot_and_never_the_seed():
    def axis(*swept):
        units = [SimpleNamespace(unit=SimpleNamespace(point=point)) for point in swept]
        return settings.axis(units)

    assert axis({seeds.KEY: 0}, {seeds.KEY: 1}) is None
    kinds = [{"fdl.losses.kd.loss": x, seeds.KEY: s} for x in "ab" for s in (0, 1)]
    assert axis(*kinds) == "fdl.losses.kd.loss"
    assert axis({seeds.KEY: 0, Z_LOSS: 0.1}, {seeds.KEY: 0, Z_LOSS: 0.2}) == Z_LOSS
