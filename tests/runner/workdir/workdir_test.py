import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fiddle as fdl
import gin
import pytest

import losses
from runner.errors import UserError
from runner.machine import versions
from runner.workdir import opening
from runner.workdir.workdir import Workdir

ROOT = Path(__file__).parents[3]
ARGV = ["runner", "--fdl_config=a file.py", "--fdl.weight=2.0"]


def graph(**fields):
    return fdl.Config(losses.LossTerm, **{"name": "ce", "weight": 1.0, **fields})


def begin(path, **fields):
    with opening.open_workdir(path, graph(**fields), ARGV):
        pass


def load_data(path):
    """What a run does once it has begun."""
    Workdir(path).record_data({"train": {"fingerprint": "5be1"}})


def content(path):
    return {
        file.name: file.read_bytes() for file in path.iterdir() if file.name != "lock"
    }


def test_a_new_run_writes_what_it_is(tmp_path):
    with opening.open_workdir(tmp_path / "a" / "run", graph(), ARGV) as opened:
        path = opened.path
        assert Path(opened) == path == tmp_path / "a" / "run"
        assert opened.checkpoints == path / "checkpoints"
        assert opened.metrics == path / "metrics.jsonl"
    assert content(path).keys() == {
        "config.txt",
        "config.json",
        "config.py",
        "command.txt",
        "versions.json",
    }
    assert "weight: 1.0" in (path / "config.txt").read_text()
    assert (path / "command.txt").read_text().splitlines()[1] == (
        "runner '--fdl_config=a file.py' --fdl.weight=2.0"
    )
    versions = json.loads((path / "versions.json").read_text())
    assert versions["libraries"]["jax"] and versions["python"]


def test_the_saved_config_is_the_graph(tmp_path):
    from runner.graph import to_json

    begin(tmp_path / "run", weight=3.0)
    loaded = to_json.load(str(opening.saved_config(tmp_path / "run")))
    assert loaded == graph(weight=3.0)


def test_the_same_graph_goes_on_and_every_start_is_noted(tmp_path):
    begin(tmp_path)
    before = content(tmp_path)
    begin(tmp_path)
    after = content(tmp_path)
    assert after.pop("command.txt").count(b"\nrunner ") == 2
    before.pop("command.txt")
    assert after == before


def test_a_changed_graph_is_shown_and_changes_nothing(tmp_path):
    begin(tmp_path)
    load_data(tmp_path)
    before = content(tmp_path)
    with pytest.raises(UserError) as refusal:
        begin(tmp_path, weight=2.0)
    lines = str(refusal.value).splitlines()
    assert lines[1:3] == ["- weight: 1.0", "+ weight: 2.0"]
    assert content(tmp_path) == before


def test_spaces_within_a_string_are_part_of_the_graph(tmp_path):
    begin(tmp_path, name="a  b")
    load_data(tmp_path)
    begin(tmp_path, name="a  b")
    with pytest.raises(UserError, match="the graph changed"):
        begin(tmp_path, name="a b")
    # As runs wrote it before, where each run of spaces was one.
    text = tmp_path / "config.txt"
    text.write_text(text.read_text().replace("a  b", "a b"))
    begin(tmp_path, name="a  b")
    with pytest.raises(UserError, match="the graph changed"):
        begin(tmp_path, name="a   b")


def test_a_long_difference_is_cut(tmp_path):
    begin(tmp_path, weight=[0.0] * 100)
    load_data(tmp_path)
    with pytest.raises(UserError) as refusal:
        begin(tmp_path, weight=list(map(fdl.Config, [losses.LossTerm] * 30)))
    assert len(str(refusal.value).splitlines()) <= 23


def test_a_graph_may_change_until_the_data_is_loaded(tmp_path):
    begin(tmp_path)
    begin(tmp_path, weight=2.0)
    assert "weight: 2.0" in (tmp_path / "config.txt").read_text()
    load_data(tmp_path)
    with pytest.raises(UserError, match="the graph changed"):
        begin(tmp_path)


def test_a_run_killed_while_it_began_can_begin(tmp_path):
    begin(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / ".tmp-abc").write_text("{")
    begin(tmp_path, weight=2.0)
    assert "weight: 2.0" in (tmp_path / "config.txt").read_text()
    assert not (tmp_path / ".tmp-abc").exists()


def test_a_directory_with_other_files_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"no config\.json.*thesis\.tex"):
        begin(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("below", ["file", "file/below"])
def test_a_file_in_the_way_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"--workdir=.*: Not a directory"):
        begin(tmp_path / below)


def test_a_directory_that_cannot_be_made_is_refused():
    with pytest.raises(UserError, match="--workdir=/proc/runs/a: No such file"):
        begin("/proc/runs/a")


def test_a_graph_that_cannot_be_saved_makes_no_directory(tmp_path):
    with pytest.raises(UserError):
        begin(tmp_path / "run", weight=lambda step: 1.0)
    assert not (tmp_path / "run").exists()


def test_two_runs_do_not_share_a_directory(tmp_path):
    with (
        opening.open_workdir(tmp_path, graph(), ARGV),
        pytest.raises(UserError, match="in use by process"),
    ):
        begin(tmp_path)
    begin(tmp_path)


def test_another_process_of_the_run_neither_locks_nor_writes(tmp_path):
    with opening.open_workdir(tmp_path / "run", graph(), ARGV, writes=False) as other:
        other.record_data({"train": "a"})
        other.record_start()
    assert not (tmp_path / "run").exists()


def test_a_start_records_devices_and_the_operative_gin(tmp_path):
    with opening.open_workdir(tmp_path, graph(), ARGV) as opened:
        opened.record_start()
    devices = json.loads((tmp_path / "versions.json").read_text())["devices"]
    assert devices["backend"] == "cpu" and devices["count"] == 8
    assert (tmp_path / "operative.gin").read_text() == gin.operative_config_str()


def test_what_a_run_did_not_begin_with_is_a_line_each_however_often_it_goes_on(
    tmp_path, monkeypatch
):
    starts = []
    for jax in ("0.10.1", "0.10.1", "0.10.2", "0.10.2"):
        software = {"libraries": {"jax": jax}, "commit": None, "flags": {}}
        monkeypatch.setattr(versions, "software", lambda software=software: software)
        with opening.open_workdir(tmp_path, graph(), ARGV) as opened:
            starts.append(opened.record_start())
    line = "libraries.jax: began with 0.10.1, goes on with 0.10.2"
    assert starts == [[], [], [line], [line]]


def test_versions_that_are_damaged_are_named(tmp_path):
    with opening.open_workdir(tmp_path, graph(), ARGV) as opened:
        (tmp_path / "versions.json").write_text('{"began": 5}')
        with pytest.raises(UserError, match=r"versions\.json is damaged: began must"):
            opened.record_start()


def test_changed_data_is_refused_by_name(tmp_path):
    data = {"train": {"fingerprint": "5be1", "sequences": 812}, "held_out": "77"}
    with opening.open_workdir(tmp_path, graph(), ARGV) as opened:
        opened.record_data(data)
        opened.record_data(data)
    with opening.open_workdir(tmp_path, graph(), ARGV) as opened:
        opened.record_data(dict(reversed(data.items())))
        changed = {**data, "train": {"fingerprint": "0000", "sequences": 812}}
        with pytest.raises(UserError) as refusal:
            opened.record_data(changed)
    assert '- train.fingerprint: "5be1"\n+ train.fingerprint: "0000"\n' in str(
        refusal.value
    )
    assert json.loads((tmp_path / "data.json").read_text()) == data


def test_equal_fingerprints_are_equal_data_however_it_is_described(tmp_path):
    opened = Workdir(tmp_path)
    opened.record_data({"train": {"fingerprint": "5be1", "bytes": 9}, "teacher": "a"})
    opened.record_data({"train": {"fingerprint": "5be1", "end": "b"}, "teacher": "a"})
    for other in ({"train": {"fingerprint": "5be1"}}, {"train": "a", "teacher": "a"}):
        with pytest.raises(UserError, match="the data changed"):
            opened.record_data(other)


def test_saved_config_names_the_runs_below(tmp_path):
    begin(tmp_path / "moe")
    with pytest.raises(UserError, match=f"there are runs in {tmp_path}/moe"):
        opening.saved_config(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        opening.saved_config(tmp_path / "absent")


KILLED = """
import os, sys
import fiddle as fdl, losses
from runner import atomic_files
from runner.workdir import opening
written = []
write = atomic_files.write_atomic
def write_or_die(path, text):
    if len(written) == {survived}:
        os.kill(os.getpid(), 9)
    written.append(path)
    write(path, text)
atomic_files.write_atomic = write_or_die
graph = fdl.Config(losses.LossTerm, name="ce", weight=1.0)
with opening.open_workdir({path!r}, graph, ["runner"]):
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("survived", range(5))
def test_a_kill_between_any_two_files_leaves_a_run_or_room_for_one(tmp_path, survived):
    script = KILLED.format(survived=survived, path=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT)
    assert done.returncode == (-signal.SIGKILL if survived < 4 else 0)
    assert os.path.exists(tmp_path / "run" / "config.json") == (survived == 4)
    begin(tmp_path / "run")
    assert len(content(tmp_path / "run")) == 5
