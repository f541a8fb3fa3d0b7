"""The report of a run, from what a work directory holds."""

import json
import math
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from runner import report
from runner.errors import UserError
from runner.report import line_labels, plot, results, run, smoothing, theme
from runner.report.__main__ import main
from tests.runner.report import pages
from tests.runner.report.pages import Page, trained


def test_the_page_tells_the_run(tmp_path):
    path = report.write(trained(tmp_path))
    assert path == tmp_path / "report.html"
    page = Page(path.read_text())
    assert "moe_zloss" in page.text and "finished, 60 steps" in page.text
    assert (
        "models.Transformer of 2.61M parameters minimises ce (weight 1) and z_loss "
        "(weight 0.0001) on runner.data.PythonLibrary (4.41M tokens), in 60 steps of "
        "16 sequences with optax.adamw. Training took 30 s without compilation and "
        "evaluation, at 26.1k tokens a second, 0.2% of it waiting for data."
    ) in " ".join(page.text.split())
    assert "the strong one a Gaussian moving average" in page.text
    for text in ("4.366", "1.691", "78.7", "23.1 %", "1.2 %", "1.601", "994.3"):
        assert text in page.text, text
    for text in (
        "losses.ce.weight: 1.0",
        "train_data.fingerprint: a3f0",
        "packages.jax: 0.10",
    ):
        assert text in page.text, text


def test_the_page_names_the_files_that_were_split(tmp_path):
    config = trained(tmp_path) / "config.txt"
    of_library = "train_data.documents: runner.data.PythonLibrary"
    of_files = """train_data.documents: runner.data.Split
train_data.documents.documents: runner.data.TextFiles
train_data.documents.documents.files: ['my/<texts>', 'more']"""
    assert of_library in config.read_text()
    config.write_text(config.read_text().replace(of_library, of_files))
    page = Page(report.write(tmp_path).read_text())
    expected = "on runner.data.TextFiles of 'my/<texts>', 'more' (4.41M tokens)"
    assert expected in " ".join(page.text.split())


def test_the_page_needs_nothing_from_elsewhere_and_all_it_shows_exists(tmp_path):
    text = report.write(trained(tmp_path)).read_text()
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe"}
    assert "://" not in text and "url(" not in text and "@import" not in text
    assert "script-src 'none'; connect-src 'none'" in text
    assert len(page.linked) == 2 * 11
    for linked in page.linked:
        drawing = xml.etree.ElementTree.parse(tmp_path / linked)
        assert drawing.getroot().tag.endswith("svg")
    on_disk = {f"report/{path.name}" for path in (tmp_path / "report").iterdir()}
    assert on_disk == set(page.linked)


def test_a_model_cannot_write_into_the_page(tmp_path):
    text = report.write(trained(tmp_path)).read_text()
    assert "<script" not in text and "&lt;script&gt;alert(1)" in text


def test_the_same_run_makes_the_same_report(tmp_path):
    trained(tmp_path)
    report.write(tmp_path)
    first = {path: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    page = (tmp_path / "report.html").read_bytes()
    pages.PICTURES.clear()  # so that they are drawn again
    report.write(tmp_path)
    assert first == {path: path.read_bytes() for path in first}
    assert page == (tmp_path / "report.html").read_bytes()


def test_a_stopped_run_shows_its_last_evaluation_and_samples(tmp_path):
    trained(tmp_path, steps=45, without=["result.json"])
    page = Page(report.write(tmp_path).read_text())
    assert "at step 45 of 60" in page.text
    assert "4.366" in page.text and "text of 40" in page.text


def measured(workdir, *, share=1.0, without=()):
    """A run with two terms, measured before training, after it and of a teacher."""
    trained(workdir, without=without)
    untrained = {"step": 0, "held_out/loss": 8.3, "held_out/terms/z_loss": 69.2}
    last = {"loss": 4.3, "terms/ce": 4.3, "terms/z_loss": 1.25, "share": share}
    last |= {"teacher/loss": 3.9, "teacher/terms/ce": 3.9}
    path = workdir / "metrics.jsonl"
    rows = [untrained, *map(json.loads, path.read_text().splitlines())]
    rows.append({"step": 60, **{f"held_out/{name}": x for name, x in last.items()}})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_terms_on_held_out_data_stand_beside_untrained_and_teacher(tmp_path):
    measured(tmp_path, without=["result.json"])
    assert report.table(tmp_path).splitlines()[-5:] == [
        "",
        "  held_out  untrained    trained    teacher",
        "  ce                –      4.300      3.900  nats per token",
        "  z_loss       69.200      1.250          –  nats² per token",
        "  not to be had from a teacher's logits: z_loss",
    ]
    page = Page(report.write(tmp_path).read_text())
    assert "Losses on held-out data" in page.text and "69.200" in page.text


def test_metrics_of_ones_own_stand_below_the_terms(tmp_path):
    measured(tmp_path, without=["result.json"])
    own = {"metrics/rank": 3.5, "teacher/metrics/rank": 2.5}
    row = {"step": 60, **{f"held_out/{name}": x for name, x in own.items()}}
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    assert report.table(tmp_path).splitlines()[-2] == (
        "  rank              –      3.500      2.500  average per token"
    )


@pytest.mark.parametrize("teacher", ["None", "runner.OfflineTeacher"])
def test_a_column_without_a_number_is_left_out_and_a_teachers_is_missed(
    tmp_path, teacher
):
    trained(tmp_path, without=["result.json"])
    last = {"loss": 4.3, "terms/ce": 4.3, "terms/z_loss": 1.25}
    row = {"step": 60, **{f"held_out/{name}": x for name, x in last.items()}}
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with (tmp_path / "config.txt").open("a") as file:
        file.write(f"teacher: {teacher}\n")
    missed = "  no column of the teacher: no whole rows of its logits are here"
    lines = report.table(tmp_path).splitlines()
    assert lines[lines.index("  held_out    trained") + 1 :] == [
        "  ce            4.300  nats per token",
        "  z_loss        1.250  nats² per token",
        *([missed] if teacher != "None" else []),
    ]
    if teacher != "None":
        page = Page(report.write(tmp_path).read_text())
        assert "No column of the teacher" in page.text


def test_the_teacher_is_a_level_in_the_pictures_of_evaluations(tmp_path):
    trained(tmp_path)
    values = {20: (0.1, 0.5), 40: (0.3, 0.5), 60: (0.6, 0.5)}
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for step, (ours, teacher) in values.items():
            row = {"held_out/accuracy": ours, "held_out/teacher/accuracy": teacher}
            file.write(json.dumps({"step": step, **row}) + "\n")
    report.write(tmp_path)
    assert "teacher" in (tmp_path / "report" / "held_out_accuracy.svg").read_text()


def test_columns_of_results_that_no_row_fills_are_left_out():
    table = [results.Row("held_out", 4.0, None, trained=True)]
    heads = [column.title for column in results.columns("token", table)]
    assert heads == ["nats/token", "perplexity"]
    assert [column.title for column in results.columns("token", [])] == heads[:1]


@pytest.mark.parametrize(("step", "is_there"), [(40, True), (60, False)])
def test_the_best_checkpoint_is_a_row_where_it_is_not_the_last(
    tmp_path, step, is_there
):
    trained(tmp_path)
    best = {"evaluation": "held_out", "step": step, "metrics": {"loss": 4.1}}
    content = pages.RESULT | {"step": 60, "best": best}
    (tmp_path / "result.json").write_text(json.dumps(content))
    assert ("held_out, best (step 40)" in report.table(tmp_path)) == is_there
    assert run.load(tmp_path).results["held_out"]["loss"] == 4.1


def test_a_run_that_ended_early_says_so(tmp_path):
    trained(tmp_path, steps=45)
    (tmp_path / "result.json").write_text(json.dumps(pages.RESULT | {"step": 45}))
    page = Page(report.write(tmp_path).read_text())
    assert "ended early, at step 45 of 60" in page.text


def test_an_evaluation_of_some_rows_is_a_curve_and_no_row_of_a_table(tmp_path):
    measured(tmp_path, share=0.25, without=["result.json"])
    assert report.table(tmp_path) == "no evaluation yet"
    loaded = run.load(tmp_path)
    assert not loaded.evaluations
    assert loaded.measured == ["held_out"]
    assert loaded.untrained("held_out") == {"loss": 8.3, "terms/z_loss": 69.2}


EVERY_FILE = [
    "metrics.jsonl",
    "config.txt",
    "result.json",
    "versions.json",
    "data.json",
    "command.txt",
    "parameters.txt",
]


@pytest.mark.parametrize("missing", EVERY_FILE)
def test_a_missing_file_leaves_a_part_out(tmp_path, missing):
    Page(report.write(trained(tmp_path, without=[missing])).read_text())


@pytest.mark.parametrize("only", ["metrics.jsonl", "config.txt"])
def test_one_file_is_enough(tmp_path, only):
    trained(tmp_path, without=[name for name in EVERY_FILE if name != only])
    Page(report.write(tmp_path).read_text())
    report.table(tmp_path)


def test_a_run_of_one_step_or_none_has_a_page(tmp_path):
    Page(report.write(trained(tmp_path / "one", steps=1)).read_text())
    workdir = trained(tmp_path / "none", steps=0, without=["result.json"])
    Page(report.write(workdir).read_text())
    assert report.table(workdir).startswith("no evaluation yet")


def test_a_diverged_run_has_a_page(tmp_path):
    trained(tmp_path, without=["result.json"])
    row = {"step": 61, "learning/ce": None, "held_out/loss": None}
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    Page(report.write(tmp_path).read_text())


def test_what_was_said_of_the_terms_is_in_page_and_table(tmp_path):
    workdir = trained(tmp_path, without=("result.json",))
    text = "`ce` has counted no token in 10 steps: Span found no <eos>"
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 10, "notices/idle_ce": text}) + "\n")
    page = report.write(workdir).read_text()
    assert f"step 10: {text.replace('<eos>', '&lt;eos&gt;')}</p>" in page
    assert f"step 10: {text}" in report.table(workdir)
    # It is no sample of the student.
    assert page.count("Span found no") == 1


def test_a_directory_without_a_run_is_refused(tmp_path, capsys):
    with pytest.raises(UserError, match=f"no run in {tmp_path}"):
        report.write(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert "no metrics.jsonl" in capsys.readouterr().err


def test_the_report_can_be_written_from_the_shell(tmp_path, capsys):
    assert main([str(trained(tmp_path))]) == 0
    assert "> held_out" in capsys.readouterr().out
    assert (tmp_path / "report.html").exists()
    assert main([]) == 2


def test_the_table_ranks_the_model_among_the_baselines(tmp_path):
    trained(tmp_path)
    (tmp_path / "report.html").touch()
    assert report.table(tmp_path, next_command="make test").splitlines() == [
        "            nats/token  perplexity  bits/byte",
        "  unigram        6.902       994.3      2.674",
        "  gzip               –           –      1.830",
        "> held_out       4.366        78.7      1.691",
        "  xz                 –           –      1.601",
        "",
        "  held_out: top-1 accuracy 23.1 %, calibration error 1.2 %",
        "",
        f"  report:   {tmp_path / 'report.html'}",
        "  try next: make test",
    ]


def test_an_enormous_loss_has_no_perplexity():
    assert results.Row("diverged", 1e4, 1e4).perplexity is None
    assert results.number(math.nan) == "–"


def test_terms_keep_the_order_of_the_experiment(tmp_path):
    assert run.load(trained(tmp_path)).terms == ["ce", "z_loss"]
    workdir = trained(tmp_path / "bare", without=["config.txt"])
    assert run.load(workdir).terms == ["ce", "z_loss"]


def labels(series, **kwargs):
    given = {"unit": "nats", "points": {}, "levels": {}, **kwargs}
    return re.findall(r">([^<>]+)</text>", plot.svg(series, **given))


def test_a_picture_names_its_units_levels_and_values():
    series = run.Series(range(1, 101), np.linspace(8, 4, 100).tolist())
    shown = labels(
        series,
        points={"held_out": run.Series([50, 100], [6.0, 4.2])},
        levels={"bigram": 4.49, "far away": 100.0},
    )
    assert {"nats", "step 0", "100", "bigram 4.49", "held_out 4.2"} <= set(shown)
    assert "training 4.08" in shown and "far away 100" not in shown


def test_only_a_wide_positive_curve_is_logarithmic():
    steps = range(1, 101)
    wide = run.Series(steps, np.geomspace(100, 0.001, 100).tolist())
    assert {"100", "1", "0.01"} <= set(labels(wide))
    assert {"75", "50", "25"} <= set(labels(wide, scale="linear"))
    signed = labels(run.Series(steps, np.linspace(-2, 2, 100).tolist()))
    assert {"-2", "0", "2"} <= {text.replace("−", "-") for text in signed}


def test_labels_that_meet_are_pushed_apart_but_not_below_the_axis():
    placed = line_labels.spread(
        [(0.9, "a", ""), (0.1, "b", ""), (0.05, "c", "")], gap=0.1
    )
    assert [name for _, name, _ in placed] == ["a", "b", "c"]
    np.testing.assert_allclose([at for at, _, _ in placed], [0.9, 0.1, 0.0], atol=1e-9)


def test_smoothing_keeps_a_line_a_gap_and_the_first_point():
    line = np.linspace(3.0, 5.0, 200)
    np.testing.assert_allclose(smoothing.smoothed(line)[:180], line[:180], rtol=1e-9)
    np.testing.assert_allclose(
        smoothing.smoothed(np.exp(line), log=True)[:180], np.exp(line[:180]), rtol=1e-9
    )
    line[50] = np.nan
    smooth = smoothing.smoothed(line)
    assert np.isnan(smooth[50]) and np.isfinite(np.delete(smooth, 50)).all()
    assert smooth[0] == 3.0


def test_the_dark_picture_differs_in_nothing_but_colours():
    light = plot.svg(
        run.Series([1, 2], [1.0, 2.0]), unit="u", points={}, levels={"level": 1.5}
    )
    dark = theme.dark(light)
    assert not set(theme.DARK) & set(re.findall("#[0-9a-f]{6}", dark))
    assert len(dark) == len(light) and dark != light


def test_only_the_cross_entropy_is_drawn_among_evaluations(tmp_path):
    report.write(trained(tmp_path))
    named = {
        path.name
        for path in (tmp_path / "report").iterdir()
        if "held_out 4.37" in path.read_text()
    }
    assert named == {"learning_ce.svg", "learning_ce-dark.svg"}


def test_two_evaluations_differ_in_colour():
    series = run.Series([1, 2], [5.0, 4.0])
    points = {"near": run.Series([1, 2], [5.1, 4.1]), "far": run.Series([1, 2], [6, 5])}
    drawn = plot.svg(series, unit="u", points=points, levels={})
    assert all(color in drawn for color in theme.MEASURED[:2])
