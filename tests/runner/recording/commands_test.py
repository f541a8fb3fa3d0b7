"""Recording as a user starts it: killed and continued, and by several processes."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import fiddle as fdl
import pytest

from runner import main
from runner.teachers import OnlineTeacher
from tests.runner.teachers import examples

ROOT = Path(__file__).parents[3]


CONFIG = """
import fiddle as fdl
from runner.recording.job import RecordTeacher
from runner.recording.modes import TopK
from runner.teachers import OnlineTeacher
from tests.runner.teachers import examples
import pathlib

def config():
    return fdl.Config(
        RecordTeacher,
        teacher=fdl.Config(OnlineTeacher, checkpoint={teacher!r}),
        data=examples.source(pathlib.Path({text!r})),
        mode=fdl.Config(TopK, k=9),
        batch_size=8,
        shard_size=8,
    )
"""


class Commands:
    """`runner` on one recording, in processes of their own."""

    def __init__(self, folder, teacher):
        self.folder = folder
        text = CONFIG.format(teacher=teacher.checkpoint, text=str(folder / "text"))
        (folder / "record.py").write_text(text)

    def flags(self, name):
        return [
            f"--fdl_config={self.folder / 'record.py'}",
            f"--workdir={self.folder / name}",
            f"--gin.compilation.cache={self.folder / 'compiled'}",
        ]

    def start(self, name, *flags):
        return subprocess.Popen(
            [sys.executable, "-m", "runner.main", *self.flags(name), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )

    def run(self, name, *flags, code=0):
        process = self.start(name, *flags)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output
        assert "Traceback" not in output
        return output

    def content(self, name):
        """Every file of the records, by name."""
        files = sorted((self.folder / name / "records").iterdir())
        return {path.name: path.read_bytes() for path in files}

    def shards(self, name):
        return len(list((self.folder / name).glob("records/*.array_record.json")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recording")


@pytest.fixture(scope="module")
def corpus(folder):
    return examples.source(folder / "text")


@pytest.fixture(scope="module")
def teacher(folder, corpus):
    run = examples.write_run(folder / "teacher", fdl.build(corpus).load())
    return OnlineTeacher(checkpoint=str(run))


@pytest.fixture(scope="module")
def commands(folder, teacher):
    return Commands(folder, teacher)


@pytest.fixture(scope="module")
def whole(commands):
    output = commands.run("whole")
    assert "records of 12 tokens" in output
    return commands.content("whole")


@pytest.mark.slow
def test_a_kill_loses_no_record_and_repeats_none(commands, whole):
    process = commands.start("killed")
    while process.poll() is None and commands.shards("killed") < 2:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert commands.shards("killed") >= 2
    assert not (commands.folder / "killed" / "records" / "manifest.json").exists()
    commands.run("killed")
    assert commands.content("killed") == whole


@pytest.mark.slow
def test_ten_kills_at_any_moment_change_no_byte(commands, whole):
    choose = random.Random(3)
    for _ in range(10):
        process = commands.start("ten")
        time.sleep(choose.uniform(1.0, 8.0))
        process.kill()
        process.communicate()
    commands.run("ten")
    assert commands.content("ten") == whole


@pytest.mark.slow
def test_a_recording_stopped_by_a_signal_continues(commands, whole):
    process = commands.start("asked")
    while process.poll() is None and commands.shards("asked") < 1:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Traceback" not in output
    commands.run("asked")
    assert commands.content("asked") == whole


@pytest.mark.slow
def test_processes_write_disjoint_shards_of_the_same_records(commands, whole):
    processes = [
        commands.start(
            "shared", "--gin.recording.processes=2", f"--gin.recording.process={i}"
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert commands.content("shared") == whole


def test_a_finished_recording_is_left_alone(commands, whole):
    # dear: records in a process of its own, as the slow tests do.
    assert main.main(["runner", *commands.flags("whole")]) == 0
    assert commands.content("whole") == whole


def test_the_cost_is_noted_in_rows_and_seconds(commands, whole):
    note = json.loads((commands.folder / "whole" / "recording.json").read_text())
    assert note["rows"] > 20 and note["seconds"] > 0
