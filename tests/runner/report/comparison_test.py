"""Several runs in one table and on one page, from what their work directories hold."""

import base64
import dataclasses
import hashlib
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from runner import report
from runner.errors import UserError
from runner.main import main as runner_main
from runner.records import manifest
from runner.records.layout import Layout
from runner.report import chart, comparison, interactive_curves, plot, run, theme
from runner.report.__main__ import main
from runner.report.run import load
from runner.workdir.workdir import Workdir
from tests.runner.report.pages import RESULT, Page, trained


def student(workdir, *, loss, bits, teacher="", **kwargs):
    """A run of 60 steps that ended at a loss."""
    trained(workdir, **kwargs)
    held_out = {"loss": loss, "bits_per_byte": bits}
    result = {**RESULT, "evaluations": {"held_out": held_out}}
    (workdir / "result.json").write_text(json.dumps(result))
    if teacher:
        with (workdir / "config.txt").open("a") as file:
            file.write(f"teacher.checkpoint: '{teacher}'\n")
    return workdir


def recorded(workdir, *, teacher, noted=1200):
    """A recording of 2,400 rows, of which one start wrote `noted` in 10 seconds."""
    directory = workdir / "records"
    directory.mkdir(parents=True)
    config = f"<root>: runner.RecordTeacher\nteacher.checkpoint: '{teacher}'\n"
    (workdir / "config.txt").write_text(config)
    (workdir / "recording.json").write_text(json.dumps({"rows": noted, "seconds": 10}))
    shard = manifest.Shard(
        name="a", first=0, count=2400, bytes=80_179_200, sha256="", hits=1, targets=2
    )
    origin = manifest.Origin(
        teacher="online", weights="a", dtype="float32", vocabulary="b", end=0, data="c"
    )
    layout = Layout(mode="top_k", entries=64, vocab_size=4096, sequence_length=128)
    found = manifest.Manifest(
        layout=layout, origin=origin, shards=[shard], code="retort"
    )
    manifest.write_manifest(directory, found)
    return workdir


@pytest.fixture
def runs(tmp_path):
    """Arguments: two students, their teacher, its records."""
    teacher = student(tmp_path / "teacher", loss=4.2, bits=1.57)
    return [
        f"labels alone={student(tmp_path / 'labels', loss=4.8, bits=1.8)}",
        str(student(tmp_path / "online", loss=4.6, bits=1.7, teacher=teacher)),
        str(teacher),
        str(recorded(tmp_path / "records", teacher=teacher)),
    ]


def test_the_table_ranks_runs_and_baselines_and_tells_what_the_teacher_cost(
    runs, tmp_path
):
    assert report.compare(runs).splitlines() == [
        "                steps  nats/token  bits/byte  training",
        "  unigram                   6.902      2.674",
        "  gzip                          –      1.830",
        "> labels alone     60       4.800      1.800      0:30",
        "> online           60       4.600      1.700      0:30",
        "  xz                            –      1.601",
        "> teacher          60       4.200      1.570      0:30",
        "",
        "  teacher: 60 steps in 0:30",
        "  records: 2,400 rows in 0:20, 80.2 MB, 261 bytes a token",
        "",
        f"  page: {tmp_path / 'comparison.html'}",
    ]


def test_the_page_holds_table_costs_curves_and_links_to_the_pages_of_runs(
    runs, tmp_path
):
    report.write(tmp_path / "online")
    report.compare(runs)
    page = Page((tmp_path / "comparison.html").read_text())
    for text in ("labels alone", "4.800", "1.830", "60 steps in 0:30", "261 bytes"):
        assert text in page.text, text
    held_out = ("loss", "perplexity", "bits_per_byte", "accuracy", "calibration_error")
    stems = [f"held_out_{metric}" for metric in held_out]
    stems += ["learning_ce", "learning_z_loss", "learning_total"]
    ends = (".svg", "-dark.svg", ".pdf")
    pictures = {f"comparison/{stem}{end}" for stem in stems for end in ends}
    assert set(page.linked) == {"online/report.html", *pictures}
    assert all((tmp_path / linked).exists() for linked in page.linked)
    drawn = (tmp_path / "comparison" / "learning_ce.svg").read_text()
    assert "labels alone" in drawn and ">records" not in drawn


def test_the_page_stands_where_it_is_sent_and_the_command_says_what_it_takes(
    runs, tmp_path, capsys
):
    assert (
        runner_main(["runner", "report", f"--to={tmp_path / 'to' / 'mail'}", *runs])
        == 0
    )
    assert (tmp_path / "to" / "mail" / "comparison.html").exists()
    assert (
        f"page: {tmp_path / 'to' / 'mail' / 'comparison.html'}"
        in capsys.readouterr().out
    )
    for line, complaint in (
        ([], "no work directory is given"),
        (["--too=x", *runs], "unexpected --too=x; expected --to=DIR"),
        (["--to", "x", *runs], "unexpected --to; expected --to=DIR"),
        (["--to=", *runs], "unexpected --to=; expected --to=DIR"),
        (["--to=x", "--to=y", *runs], "--to is given twice: --to=x --to=y"),
    ):
        assert runner_main(["runner", "report", *line]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"runner report: {complaint}")
    assert runner_main(["runner", "report", f"--to={tmp_path}", runs[1]]) == 2
    assert "stands in its directory" in capsys.readouterr().err
    file = tmp_path / "file"
    file.touch()
    assert runner_main(["runner", "report", f"--to={file}", *runs]) == 2
    assert capsys.readouterr().err == f"runner report: {file}: File exists\n"


def test_runs_in_directories_of_one_name_are_told_apart(tmp_path):
    paths = [tmp_path / parent / "student" for parent in ("a", "b")]
    for path, loss in zip(paths, (4.8, 4.6), strict=True):
        path.parent.mkdir()
        student(path, loss=loss, bits=1.7)
        held_out = {"held_out": {"fingerprint": str(loss)}}
        (path / "data.json").write_text(json.dumps(held_out))
    first, second = map(str, paths)
    entries = comparison.entries([first, second])
    assert [one.name for one in entries] == [first, second]
    assert comparison.warnings(entries) == [
        f"not to be compared with {first}, other text: {second}"
    ]
    with pytest.raises(UserError, match="two runs are named 'x'; give each a name"):
        comparison.entries([f"x={first}", f"x={second}"])


def test_a_sweep_stands_for_its_units_that_have_begun(tmp_path, capsys):
    sweep = tmp_path / "lr"
    (sweep / "units").mkdir(parents=True)
    for name in ("00-a", "01-b"):
        student(sweep / "units" / name, loss=4.6, bits=1.7)
    (sweep / "sweep.json").write_text("{}")
    (sweep / "units" / "02-c").mkdir()
    elsewhere = student(tmp_path / "elsewhere", loss=4.0, bits=1.5)
    (sweep / "units" / "03-d").symlink_to(elsewhere)
    assert main([str(sweep), f"--to={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith(">")] == [
        "00-a",
        "01-b",
    ]
    assert main([str(sweep)]) == 0
    assert (sweep / "comparison.html").exists()
    # A stranger's sweep may hold a link in the place of the pictures.
    shutil.rmtree(sweep / "comparison")
    (sweep / "comparison").symlink_to(elsewhere)
    assert main([str(sweep)]) == 2
    assert "comparison is a link" in capsys.readouterr().err
    for name in ("00-a", "01-b"):
        (sweep / "units" / name / "metrics.jsonl").unlink()
    assert main([str(sweep)]) == 2
    assert "no unit of the sweep" in capsys.readouterr().err


def swept(directory, points):
    """A sweep of two flags, whose first is named in short."""
    names = {"fdl.losses.kd.loss": "kd.loss", "fdl.seed": "seed"}
    units = []
    (directory / "units").mkdir(parents=True)
    for number, point in enumerate(points):
        name = f"{number:02}-x"
        student(directory / "units" / name, loss=4.6, bits=1.7)
        literals = {key: repr(value) for key, value in point.items()}
        units.append({"name": name, "point": literals})
    content = {"names": names, "units": units}
    (directory / "sweep.json").write_text(json.dumps(content))
    return directory


def test_the_units_of_a_sweep_are_named_by_what_they_differ_in(tmp_path):
    points = [
        {"fdl.losses.kd.loss": f"losses.{loss}", "fdl.seed": seed}
        for loss, seed in (
            ("ForwardKL()", 0),
            ("ForwardKL()", 1),
            ("ReverseKL(x=1)", 0),
        )
    ]
    a, b = swept(tmp_path / "a", points), swept(tmp_path / "b", points[:1])

    def names(*arguments):
        return [one.name for one in comparison.entries(arguments)]

    ends = ("ForwardKL seed=0", "ForwardKL seed=1", "ReverseKL(x=1) seed=0")
    labels = [f"kd.loss={end}" for end in ends]
    assert names(str(a)) == labels and names(str(b)) == labels[:1]
    several = [*(f"a: {label}" for label in labels), f"mine: {labels[0]}"]
    assert names(str(a), f"mine={b}") == several
    assert main([f"mine={b}"]) == 0
    assert "mine: kd.loss" in (tmp_path / "b" / "comparison.html").read_text()
    (tmp_path / "b" / "sweep.json").write_text('{"units": 3}')
    with pytest.raises(UserError, match=r"sweep\.json is damaged"):
        names(str(b))


def test_one_script_may_run_and_what_a_run_wrote_is_only_read(runs, tmp_path):
    """The rest of a page cannot run: its policy names the script by its sha256."""
    name = "</script><script>alert(1)</script>&\u2028"
    report.compare([f"{name}={tmp_path / 'labels'}", *runs[1:]])
    text = (tmp_path / "comparison.html").read_text()
    page = Page(text)
    model, code = page.scripts
    assert json.loads(model)["runs"][0]["name"] == name
    assert not set("<>&") & set(model)
    assert code == interactive_curves.script()
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'; connect-src 'none'" in text
    # One policy, before anything that it is to hold for; no way around the text.
    assert text.index("Content-Security-Policy") < text.index("<style")
    assert text.count("Content-Security-Policy") == 1
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "eval(",
        "Function(",
        "import(",
    ):
        assert way not in code, way
    assert not page.tags & {"link", "iframe", "img", "object", "embed"}
    # Nothing is fetched: names of the library's home and of a namespace alone.
    assert re.findall(r"https?://[^\"' )]+", code) == [
        "https://github.com/leeoniya/uPlot",
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/2000/svg",
    ]


def test_the_library_is_the_published_one():
    """`npm pack uplot@1.6.32`: dist/uPlot.iife.min.js, its style and its license."""
    folder = Path(interactive_curves.__file__).parent / "interactive"
    digests = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        for file in folder.glob("uplot.*")
    }
    assert digests == {
        "uplot.LICENSE": "8f989229699b4fe2",
        "uplot.min.css": "df630c6a8d6f8eea",
        "uplot.min.js": "19c8d4c6ad88929a",
    }


def test_a_page_of_twelve_long_runs_is_small_enough_to_mail(tmp_path):
    loaded = load(trained(tmp_path))
    steps = range(100_000)
    values = [1 / (step + 3) for step in steps]
    long = {f"learning/{i}": run.Series(steps, values) for i in range(20)}
    runs = [dataclasses.replace(loaded, metrics=long)] * 12
    charts = chart.charts(runs)
    html = interactive_curves.html(["a"] * 12, runs, charts, unit="token")
    assert len(html) + len(interactive_curves.script()) < 6e6
    model = json.loads(Page(html).scripts[0])
    grid = model["grids"][0]
    assert len(model["grids"]) == 1 and grid[0] == 0 and grid[-1] == 99_999
    assert model["charts"][0]["curves"][0]["values"][-1] == pytest.approx(
        values[-1], rel=1e-4
    )


def test_charts_are_held_out_first_and_know_the_teacher_and_the_unit(tmp_path):
    loaded = load(trained(tmp_path))
    steps = [0, 30, 60]
    metrics = {
        **loaded.metrics,
        "held_out/terms/z_loss": run.Series(steps, [9.0, 2.0, 1.0]),
        "held_out/loss": run.Series(steps, [8.0, 5.0, 4.0]),
        "held_out/teacher/loss": run.Series(steps, [3.5, 3.5, 3.5]),
        "held_out/share": run.Series(steps, [1.0, 1.0, 1.0]),
    }
    first = dataclasses.replace(loaded, metrics=metrics)
    other = {**metrics, "held_out/teacher/loss": run.Series(steps, [3.0, 3.0, 3.0])}
    charts = {
        one.name: one
        for one in chart.charts(
            [first, loaded, dataclasses.replace(loaded, metrics=other)]
        )
    }
    sections = [one.section for one in charts.values()]
    assert sections == sorted(sections, key=chart.SECTIONS.index)
    assert sections[0] == "Held out"
    assert charts["held_out/terms/z_loss"].unit == "nats² per token"
    assert charts["held_out/loss"].unit == "nats per token"
    assert charts["held_out/loss"].levels == {"teacher 1": 3.5, "teacher 2": 3.0}
    assert list(charts["held_out/terms/z_loss"].lines) == [0, 2]
    assert {"learning/ce", "learning/total", "optimizer/gradient_norm"} <= set(charts)
    assert "weights/ce" not in charts and "weights/z_loss" in charts
    assert "held_out/share" not in charts and "held_out/teacher/loss" not in charts


def test_a_curve_stands_at_its_tokens_flops_or_device_seconds(tmp_path):
    loaded = load(trained(tmp_path))
    loaded = dataclasses.replace(
        loaded,
        metrics={"speed/steps_per_second": run.Series([10, 30], [2.0, 4.0])},
        versions={"devices": {"count": 8}},
        costs=run.Costs(targets_per_step=4096, flops_per_step=3.2e9),
    )
    # Ten steps at 2 a second, then twenty at 4, on eight devices.
    assert chart.clock(loaded) == run.Series([0, 10, 30], [0.0, 40.0, 80.0])
    charts = [
        chart.Chart("Held out", "a/b", "a: b", "u", {0: run.Series([0, 1], [2, 1])}, {})
    ]
    html = interactive_curves.html(["a"], [loaded], charts, unit="token")
    assert json.loads(Page(html).scripts[0])["runs"] == [
        {
            "name": "a",
            "targets": 4096,
            "flops": 3.2e9,
            "clock": [[0, 10, 30], [0, 40, 80]],
        }
    ]
    assert chart.clock(dataclasses.replace(loaded, metrics={})) is None


def test_the_costs_of_a_step_are_read_where_a_run_wrote_them(tmp_path):
    workdir = trained(tmp_path)
    assert load(workdir).costs == run.Costs()
    Workdir(workdir).record_costs(targets_per_step=4096, flops_per_step=5)
    assert load(workdir).costs == run.Costs(4096, 5)
    (workdir / "costs.json").write_text('{"flops_per_step": "many"}')
    with pytest.raises(UserError, match=r"costs\.json is damaged"):
        load(workdir)


def test_pictures_are_not_smoothed():
    series = run.Series([1, 2, 3, 4], [3.0, 1.0, 2.0, 0.5])
    figure = plot.compared({"a": series}, unit="nats", levels={})
    (line,) = figure.axes[0].lines
    assert list(line.get_ydata()) == series.values


def test_twelve_runs_differ_in_color_on_either_page_and_neighbors_in_style_too():
    """Distances in Oklab (Ottosson 2020): 0.02 is just seen side by side."""
    for page, palette in (
        ("#ffffff", theme.COLORS),
        ("#15181d", [theme.DARK[color] for color in theme.COLORS]),
    ):
        assert len(set(palette)) == 12
        assert all(contrast(color, page) > 3 for color in palette)
        for one, other in itertools.combinations(palette, 2):
            assert np.linalg.norm(oklab(one) - oklab(other)) > 0.04, (one, other)
    assert len(set(map(str, theme.DASHES))) == 4


def linear(color):
    """Linear sRGB of `#rrggbb`."""
    srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(srgb > 0.04045, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)


def oklab(color):
    """Lightness, and green to red, blue to yellow."""
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_cones) @ linear(color))


def contrast(one, other):
    """Contrast ratio of WCAG 2.1."""
    lights = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] for c in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def test_a_name_may_hold_anything_but_an_equals_sign(tmp_path, capsys):
    a = student(tmp_path / "a", loss=4.8, bits=1.8)
    b = student(tmp_path / "b=c", loss=4.6, bits=1.7)
    assert main([f"<script>={a}", str(b)]) == 0
    assert "> b=c " in capsys.readouterr().out
    page = Page((tmp_path / "comparison.html").read_text())
    assert len(page.scripts) == 2 and "<script>" in page.text


def test_a_run_under_way_shows_how_far_it_is(tmp_path):
    a = trained(tmp_path / "a", steps=45, without=["result.json"])
    b = student(tmp_path / "b", loss=4.6, bits=1.7)
    assert "> a        45/60       4.366" in report.compare([str(a), str(b)])
    bare = trained(tmp_path / "c", without=["result.json", "metrics.jsonl"])
    assert "> c         0/60           –" in report.compare([str(bare), str(b)])


def test_runs_that_were_measured_on_other_text_are_named(tmp_path):
    runs = []
    for name, fingerprint in (("a", "1f"), ("b", "1f"), ("c", "2e")):
        runs.append(str(student(tmp_path / name, loss=4.6, bits=1.7)))
        data = json.dumps({"held_out": {"fingerprint": fingerprint}})
        (tmp_path / name / "data.json").write_text(data)
    warning = "not to be compared with a, other text: c"
    assert warning in report.compare(runs)
    assert warning in (tmp_path / "comparison.html").read_text()


def test_what_cannot_be_compared_is_refused_in_one_line(runs, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main([*runs, str(tmp_path / "empty")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"runner report: no run in {tmp_path / 'empty'}: "
        "no metrics.jsonl and no config.txt"
    ]
    assert main([*runs, str(tmp_path / "recrds")]) == 2
    near = f"no such directory: {tmp_path / 'recrds'}; did you mean 'records'?"
    assert near in capsys.readouterr().err
    (tmp_path / "kinds").mkdir()
    (tmp_path / "kinds" / "sweep.json").write_text("{}")
    assert main([*runs, str(tmp_path / "kind")]) == 2
    assert "; did you mean 'kinds'?" in capsys.readouterr().err
    assert main([str(tmp_path / "records")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert f"inspect {tmp_path / 'records'} shows them" in error
    assert not (tmp_path / "records" / "report.html").exists()
    (tmp_path / "records" / "records" / "manifest.json").unlink()
    assert main(runs) == 2
    error = capsys.readouterr().err
    assert "holds no finished teacher records" in error and error.count("\n") == 1


def test_a_damaged_note_of_a_recording_is_refused(runs, tmp_path):
    (tmp_path / "records" / "recording.json").write_text("{")
    with pytest.raises(UserError, match=r"recording\.json is damaged"):
        report.compare(runs)


def test_long_names_make_a_picture_wider_and_leave_the_curves_their_room():
    series = run.Series([1, 2], [2.0, 1.0])

    def inches(name):
        figure = plot.compared({name: series}, unit="nats", levels={})
        return figure.get_figwidth(), figure.axes[0].get_position().width

    usual, share = inches("a")
    wide, share_of_wide = inches("losses.ForwardKL(temperature=2.0) " * 4)
    assert usual == theme.WIDTH < wide
    assert 0.49 * usual < share_of_wide * wide < share * usual


def test_a_picture_of_several_runs_leaves_out_where_they_begin():
    steps = range(1, 101)
    lines = {
        name: run.Series(steps, [last + 4 * 0.9**step for step in steps])
        for name, last in (("a", 4.5), ("b", 4.0))
    }
    figure = plot.compared(lines, unit="nats", levels={"bigram": 4.9, "unigram": 7.0})
    svg = plot.saved(figure).decode()
    assert "a 4.5" in svg and "b 4" in svg and "bigram 4.9" in svg
    assert "unigram" not in svg
    assert theme.BLUE in svg and theme.MEASURED[0] in svg
