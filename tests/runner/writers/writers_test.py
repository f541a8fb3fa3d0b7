"""Writers: what they leave on disk, also after a kill and a resume."""

import json
import signal
import struct
import subprocess
import sys
import textwrap
import types
from typing import Any

import numpy as np
import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto import plugin_hparams_pb2

from runner import writers
from runner.errors import UserError
from runner.writers.clu import SummaryWriter, metric_writers
from runner.writers.console import split_evaluation
from runner.writers.tensorboard import Event, SessionLog
from runner.writers.terminal import Terminal

# Of generated code, whose names no type checker knows.
PluginData: Any = vars(plugin_hparams_pb2)["HParamsPluginData"]


def events(workdir):
    """Every event on disk, each record's two checksums verified."""
    found = []
    for path in sorted((workdir / "events").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            header = data[at : at + 8]
            (size,) = struct.unpack("<Q", header)
            body = data[at + 12 : at + 12 + size]
            assert data[at + 8 : at + 12] == masked(header)
            assert data[at + 12 + size : at + 16 + size] == masked(body)
            found.append(Event.FromString(body))
            at += 16 + size
    return found


def masked(data):
    """TFRecord's checksum: the crc32c rotated right by 15, plus a constant."""
    crc = crc32c(data) & 0xFFFFFFFF
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def python(code, *args, **kwargs):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=120,
        **kwargs,
    )


@pytest.mark.slow
def test_nothing_imports_tensorflow(tmp_path):
    # A module that raises stands where TensorFlow would be found, installed or not.
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('tensorflow imported')")
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import numpy as np
        from runner import report, writers
        from runner.train import hooks
        writer = writers.create(sys.argv[1])
        writer.write_scalars(1, {"learning/ce": 2.0})
        writer.write_texts(1, {"samples/0": "text"})
        writer.write_images(1, {"image": np.zeros((2, 4, 4, 3))})
        writer.write_histograms(1, {"norms": np.arange(5.0)})
        writer.write_hparams({"seed": 0})
        writer.flush()
        writer.close()
        assert "clu.metric_writers" in sys.modules
        print([name for name in sys.modules if name.startswith("tensorflow")])
    """
    result = python(code, str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


def test_the_stand_in_has_every_method_of_clus_interface():
    for name in metric_writers.MetricWriter.__abstractmethods__:
        assert callable(getattr(SummaryWriter, name, None)), name
    assert issubclass(SummaryWriter, metric_writers.MetricWriter)
    assert metric_writers.SummaryWriter is SummaryWriter


def test_clus_own_default_writer_uses_the_stand_in(tmp_path):
    writer = metric_writers.create_default_writer(tmp_path / "events")
    writer.write_scalars(3, {"ce": 1.5})
    writer.close()
    assert events(tmp_path)[-1].summary.value[0].simple_value == 1.5


def test_tensorboard_reads_back_what_was_written(tmp_path):
    writer = writers.create(tmp_path)
    writer.write_scalars(7, {"learning/ce": np.float32(1.25), "optimizer/rate": 1e-3})
    writer.write_texts(7, {"samples/0": "Ω text"})
    writer.write_images(7, {"image": np.ones((5, 4, 3))})
    writer.write_histograms(7, {"h": np.array([0.0, 1.0, np.nan, 1.0])}, {"h": 2})
    writer.close()
    version, start, scalars, texts, images, histograms = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (SessionLog.START, 1)
    assert all(e.step == 7 for e in (scalars, texts, images, histograms))
    read = {value.tag: value.simple_value for value in scalars.summary.value}
    assert read == {"learning/ce": 1.25, "optimizer/rate": pytest.approx(1e-3)}
    assert texts.summary.value[0].tensor.string_val[0].decode() == "Ω text"
    assert (images.summary.value[0].image.height, images.step) == (5, 7)
    assert histograms.summary.value[0].histo.num == 3


def test_a_resumed_run_tells_tensorboard_to_drop_later_steps(tmp_path):
    writers.create(tmp_path).close()
    writers.create(tmp_path, start_step=20).close()
    starts = [e.step for e in events(tmp_path) if e.HasField("session_log")]
    assert starts == [1, 21]


def test_a_step_written_twice_is_read_as_one(tmp_path):
    writer = writers.JsonLinesWriter(tmp_path / "metrics.jsonl")
    writer.write_scalars(20, {"b": np.int32(2)})
    writer.write_scalars(10, {"a": 1.5})
    writer.write_scalars(20, {"c": np.asarray([0.25])})
    writer.write_texts(20, {"samples/0": "two\nlines"})
    writer.close()
    assert writers.read(tmp_path / "metrics.jsonl") == [
        {"step": 10, "a": 1.5},
        {"step": 20, "b": 2, "c": 0.25, "samples/0": "two\nlines"},
    ]


def test_every_line_is_standard_json_even_of_a_diverged_run(tmp_path):
    writer = writers.JsonLinesWriter(tmp_path / "metrics.jsonl")
    writer.write_scalars(1, {"nan": float("nan"), "inf": -np.inf, "ok": np.float32(1)})
    writer.close()
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {
        "step": 1,
        "nan": None,
        "inf": None,
        "ok": 1.0,
    }


def test_opening_removes_later_steps_and_a_half_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = [b'{"step": %d, "a": 1}\n' % step for step in (10, 20, 30, 25)]
    path.write_bytes(b"".join(whole) + b'{"step": 15, "a')
    writer = writers.JsonLinesWriter(path, start_step=20)
    writer.write_scalars(21, {"a": 2})
    writer.close()
    assert [row["step"] for row in writers.read(path)] == [10, 20, 21]
    assert not path.with_name("metrics.jsonl.partial").exists()


def write_steps(path, steps, *, start_step=0, part_bytes=150):
    """An evaluation before the first step, then a line and a text of each step."""
    writer = writers.JsonLinesWriter(path, start_step=start_step, part_bytes=part_bytes)
    for step in steps:
        writer.write_scalars(step, {"learning/ce": 1.0 / (1 + step)})
        writer.write_texts(step, {"samples/0": f"text of step {step}"})
    writer.close()


@pytest.mark.parametrize("start_step", range(12))
def test_full_files_of_lines_are_put_away_and_read_as_one(tmp_path, start_step):
    one, many = tmp_path / "one.jsonl", tmp_path / "metrics.jsonl"
    write_steps(one, range(12), part_bytes=2**20)
    write_steps(many, range(12))
    assert writers.read(many) == writers.read(one)
    parts = sorted(tmp_path.glob("metrics*"))
    assert len(parts) == 6 and all(part.stat().st_size < 300 for part in parts)
    # A run that goes on after any step, and writes other lines of later ones.
    write_steps(many, range(start_step + 1, 12, 2), start_step=start_step)
    write_steps(one, range(start_step + 1, 12, 2), start_step=start_step)
    assert writers.read(many) == writers.read(one)


def test_a_full_file_of_events_is_followed_by_another(tmp_path):
    writer = SummaryWriter(str(tmp_path / "events"), part_bytes=100)
    for step in range(9):
        writer.write_scalars(step, {"learning/ce": 1.0})
    writer.close()
    files = sorted((tmp_path / "events").iterdir())
    assert len(files) == 5 and all(file.stat().st_size < 160 for file in files)
    written = [event for event in events(tmp_path) if event.HasField("summary")]
    assert [event.step for event in written] == list(range(9))


@pytest.mark.parametrize("end", [b"", b'{"step": 3', b"{}", b"[1]\n", b"\xff\n", b"7"])
def test_what_is_no_whole_line_is_never_read(tmp_path, end):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 2, "a": 1}\n' + end)
    assert writers.read(path) == [{"step": 2, "a": 1}]
    writers.truncate_after(path, 2)
    assert path.read_bytes() == b'{"step": 2, "a": 1}\n'


def test_a_killed_run_leaves_all_its_lines_and_events(tmp_path):
    code = """
        import os, signal, sys
        from runner import writers
        writer = writers.create(sys.argv[1])
        for step in range(1, 51):
            writer.write_scalars(step, {"learning/ce": 1.0 / step})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(code, str(tmp_path)).returncode == -signal.SIGKILL
    rows = writers.read(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 51))
    written = [e.step for e in events(tmp_path) if e.HasField("summary")]
    assert written == list(range(1, 51))


def test_the_console_shows_results_and_leaves_training_to_the_live_line(
    tmp_path, capsys
):
    writer = writers.create(tmp_path)
    writer.write_scalars(5, {"learning/ce": 1.0, "moe/load/1": 0.5})
    writer.write_scalars(5, {"held_out/loss": 4.51234, "held_out/bits_per_byte": 1.7})
    writer.write_scalars(5, {"held_out/terms/kl": 1.0, "held_out/teacher/loss": 2.0})
    writer.write_texts(5, {"samples/0": "two\nlines"})
    writer.close()
    assert capsys.readouterr().out.splitlines() == [
        "step 5  held_out: loss 4.512  bits/byte 1.700",
        "step 5  samples/0: two lines",
    ]


def test_a_missing_wandb_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        writers.create(tmp_path, wandb_project="losses")
    assert list(tmp_path.iterdir()) == []


GRAPH = """\
<root>: runner.Experiment
losses.ce.weight: 0.5
num_steps: 300
remat: True
train_data.files: ['a.txt']
"""
PARAMETERS = {
    "<root>": "runner.Experiment",
    "losses.ce.weight": 0.5,
    "num_steps": 300,
    "remat": True,
    "train_data.files": "['a.txt']",
}


def test_tensorboard_has_the_graph_as_text_and_as_parameters_once(tmp_path):
    (tmp_path / "config.txt").write_text(GRAPH)
    for start in (-1, 7):  # a run that goes on has written them
        writers.create(tmp_path, start_step=start, results=["held_out/loss"]).close()
    values = [v for event in events(tmp_path) for v in event.summary.value]
    experiment, start, _, text = values
    assert [v.tag for v in values][-1] == "config/text_summary"
    assert text.tensor.string_val[0].decode() == textwrap.indent(GRAPH, "    ")
    of_plugin = PluginData.FromString(start.metadata.plugin_data.content)
    shown = {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in of_plugin.session_start_info.hparams.items()
    }
    assert shown == PARAMETERS
    of_plugin = PluginData.FromString(experiment.metadata.plugin_data.content)
    metrics = [info.name.tag for info in of_plugin.experiment.metric_infos]
    assert metrics == ["held_out/loss"]


class FakeRun:
    def __init__(self):
        self.logged, self.finished, self.summary = [], False, {}

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished = True


def test_wandb_continues_the_run_of_the_work_directory(tmp_path, monkeypatch):
    starts, run = [], FakeRun()
    wandb = types.SimpleNamespace(init=lambda **kwargs: starts.append(kwargs) or run)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for step in (10, 5):  # The second attempt starts again at an earlier step.
        writer = writers.create(tmp_path, wandb_project="losses", start_step=step - 1)
        writer.write_scalars(step, {"learning/ce": np.float32(0.5)})
        writer.close()
    first, second = starts
    assert first == second
    assert (first["project"], first["resume"]) == ("losses", "allow")
    assert run.logged == [
        {"step": 10, "learning/ce": 0.5},
        {"step": 5, "learning/ce": 0.5},
    ]
    assert run.finished


def test_wandb_is_told_name_group_config_and_results(tmp_path, monkeypatch):
    """`make trackers` asks the real one, offline."""
    starts, run = [], FakeRun()
    wandb = types.SimpleNamespace(init=lambda **kwargs: starts.append(kwargs) or run)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    unit = tmp_path / "lr" / "units" / "00-peak=0.1"
    unit.mkdir(parents=True)
    (unit / "config.txt").write_text(GRAPH)
    writer = writers.create(unit, wandb_project="losses")
    writer.write_scalars(1, {"learning/ce": 3.0})
    for loss, share in ((2.5, 1.0), (2.4, 0.5)):
        writer.write_scalars(1, {"held_out/loss": loss, "held_out/share": share})
    writer.close()
    (start,) = starts
    assert (start["name"], start["group"]) == ("00-peak=0.1", "lr")
    assert start["config"] == PARAMETERS
    assert run.summary == {"held_out/loss": 2.5, "held_out/share": 1.0}
    writers.create(tmp_path, wandb_project="losses").close()
    assert (starts[1]["name"], starts[1]["group"]) == (tmp_path.name, None)


def test_a_console_without_texts_shows_evaluations_and_notices(capsys):
    writer = writers.ConsoleWriter(Terminal(), texts=False)
    writer.write_texts(10, {"samples/0": "The module"})
    writer.write_texts(10, {"notices/idle_ce": "`ce` has counted no token"})
    writer.write_scalars(10, {"held_out/loss": 4.5})
    assert capsys.readouterr().out.splitlines() == [
        "step 10  note: `ce` has counted no token",
        "step 10  held_out: loss 4.500",
    ]


@pytest.mark.parametrize(
    ("name", "evaluation", "metric"),
    [
        ("held_out/loss", "held_out", "loss"),
        ("held_out/terms/loss", "held_out", "terms/loss"),
        ("held_out/teacher/loss", "held_out", "teacher/loss"),
        ("held_out/teacher/terms/z_loss", "held_out", "teacher/terms/z_loss"),
        ("text/held_out/loss", "text/held_out", "loss"),
        ("terms/loss", "terms", "loss"),
        ("learning/loss", "", ""),
        ("moe/load/1", "", ""),
    ],
)
def test_a_metric_of_an_evaluation_is_known_by_its_name(name, evaluation, metric):
    assert split_evaluation(name) == (evaluation, metric)
