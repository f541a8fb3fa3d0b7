"""Several runs in one table and on one page, from what their work directories hold."""

import json

import pytest

from runner import report
from runner.errors import UserError
from runner.records import manifest
from runner.records.layout import Layout
from runner.report import plot, run, theme
from runner.report.__main__ import main
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
    assert set(page.linked) == {
        "online/report.html",
        "comparison/cross_entropy.svg",
        "comparison/cross_entropy-dark.svg",
    }
    assert all((tmp_path / linked).exists() for linked in page.linked)
    drawn = (tmp_path / "comparison" / "cross_entropy.svg").read_text()
    assert "labels alone" in drawn and ">records" not in drawn


def test_a_name_may_hold_anything_but_an_equals_sign(tmp_path, capsys):
    a = student(tmp_path / "a", loss=4.8, bits=1.8)
    b = student(tmp_path / "b=c", loss=4.6, bits=1.7)
    assert main([f"<script>={a}", str(b)]) == 0
    assert "> b=c " in capsys.readouterr().out
    assert "<script" not in (tmp_path / "comparison.html").read_text()


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
        f"no run in {tmp_path / 'empty'}: no metrics.jsonl and no config.txt"
    ]
    (tmp_path / "records" / "records" / "manifest.json").unlink()
    assert main(runs) == 2
    error = capsys.readouterr().err
    assert "holds no finished teacher records" in error and error.count("\n") == 1


def test_a_damaged_note_of_a_recording_is_refused(runs, tmp_path):
    (tmp_path / "records" / "recording.json").write_text("{")
    with pytest.raises(UserError, match=r"recording\.json is damaged"):
        report.compare(runs)


def test_a_picture_of_several_runs_leaves_out_where_they_begin():
    steps = range(1, 101)
    lines = {
        name: run.Series(steps, [last + 4 * 0.9**step for step in steps])
        for name, last in (("a", 4.5), ("b", 4.0))
    }
    svg = plot.compared(lines, unit="nats", levels={"bigram": 4.9, "unigram": 7.0})
    assert "a 4.5" in svg and "b 4" in svg and "bigram 4.9" in svg
    assert "unigram" not in svg
    assert theme.BLUE in svg and theme.MEASURED[0] in svg
