"""Recording a teacher: whole, killed and continued, and by several processes."""

import io
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import fiddle as fdl
import jax
import numpy as np
import pytest

from runner import main, runtime
from runner.errors import UserError
from runner.recording.job import RecordTeacher
from runner.recording.modes import Full, Sampled, TopK
from runner.records.reader import Records
from runner.teachers import (
    EMATeacher,
    EnsembleTeacher,
    OfflineTeacher,
    OnlineTeacher,
)
from runner.writers.terminal import Terminal
from tests.heads import in_blocks
from tests.runner.teachers import examples

ROOT = Path(__file__).parents[3]


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


def job(corpus, teacher, **fields):
    return RecordTeacher(
        teacher=teacher, data=fdl.build(corpus), batch_size=8, shard_size=20, **fields
    )


def record(job, directory):
    """All of it, sealed."""
    recorder = job.recorder()
    job._write(recorder, directory, Terminal(io.StringIO()), lambda: False)
    assert recorder.seal(directory) is not None
    return Records.load(directory)


def whole_logits(teacher, dataset):
    """`[rows T V]` float64, relative to the largest."""
    loaded = teacher.load(examples.setting(dataset.vocabulary))
    fixed = jax.device_get(loaded.read())
    model = loaded.make(fixed["params"], fixed["variables"])
    rows = dataset.rows(np.arange(len(dataset)))
    forward = jax.jit(lambda model, rows: model.head(model.trunk(rows).hidden))
    logits = np.asarray(forward(model, rows))
    logits = logits.astype(np.float64)
    return logits - logits.max(-1, keepdims=True)


def log_normalizer(logits, temperature):
    return np.log(np.exp(logits / temperature).sum(-1))


def test_the_best_entries_are_the_teachers(folder, corpus, teacher):
    made = job(corpus, teacher, mode=TopK(k=5), temperatures=(1.0, 2.0))
    records = record(made, folder / "top")
    dataset = fdl.build(corpus).load()
    logits = whole_logits(teacher, dataset)
    assert len(records) == len(dataset) > 20
    # The reference is another float32 pass. This teacher is ill-conditioned: weights
    # changed by a relative 1e-7 move its log-normalisers by up to 5e-5.
    two_passes = 1e-4
    for number, found in enumerate(records.read(np.arange(len(records)))):
        order = np.argsort(-logits[number], axis=-1)[:, :5]
        best = np.take_along_axis(logits[number], order, -1)
        read = np.concatenate([np.zeros((12, 1)), found.logits], axis=1)
        others = logits[number].copy()
        np.put_along_axis(others, found.ids, -np.inf, axis=-1)
        np.testing.assert_allclose(read, best, atol=3e-4)
        at = np.take_along_axis(logits[number], found.ids, -1)
        np.testing.assert_allclose(at, best, atol=two_passes)  # the same, but for ties
        for place, temperature in enumerate((1.0, 2.0)):
            np.testing.assert_allclose(
                found.log_normalizers[:, place],
                log_normalizer(logits[number], temperature),
                atol=two_passes,
            )
            np.testing.assert_allclose(
                found.log_rests[:, place],
                log_normalizer(others, temperature),
                atol=two_passes,
            )


def test_draws_are_the_teachers_in_frequency(folder, corpus, teacher):
    made = job(corpus, teacher, mode=Sampled(n=4000), temperatures=(2.0,))
    records = record(made, folder / "draws")
    logits = whole_logits(teacher, fdl.build(corpus).load())
    p = np.exp(logits / 2.0 - log_normalizer(logits, 2.0)[..., None])
    for number in (0, 7):
        found = records.read(np.array([number]))[0]
        for place in range(12):
            ids = found.ids
            assert ids is not None
            counted = np.bincount(ids[place], minlength=300) / 4000
            gap = np.abs(counted - p[number, place])
            assert np.all(gap < 5 * np.sqrt(p[number, place] / 4000) + 1e-3)
        entropy = -np.sum(p[number] * np.log(p[number]), -1)
        np.testing.assert_allclose(found.entropies[:, 0], entropy, atol=1e-4)


def test_draws_depend_on_the_seed_and_the_row_alone(folder, corpus, teacher):
    one = job(corpus, teacher, mode=Sampled(n=6))
    other = RecordTeacher(
        teacher=teacher, data=one.data, mode=Sampled(n=6), batch_size=16, shard_size=50
    )
    left = record(one, folder / "one")
    right = record(other, folder / "other")
    seeded = record(job(corpus, teacher, mode=Sampled(n=6), seed=1), folder / "seeded")
    numbers = np.arange(len(left))
    ids = [[x.ids for x in found.read(numbers)] for found in (left, right, seeded)]
    np.testing.assert_array_equal(ids[0], ids[1])
    assert (np.array(ids[0]) != np.array(ids[2])).mean() > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("mode", [TopK(k=300), Full()], ids=["k = V", "full"])
def test_a_whole_vocabulary_of_records_teaches_like_the_model(
    folder, corpus, teacher, mode
):
    name = f"whole-{mode.name}"
    record(job(corpus, teacher, mode=mode), folder / name)
    offline = OfflineTeacher(records=str(folder / name), teacher=teacher)
    (ours, total, terms), _, _ = examples.gradients(
        examples.experiment(corpus, offline)
    )
    (theirs, wanted, expected), _, _ = examples.gradients(
        examples.experiment(corpus, teacher)
    )
    np.testing.assert_allclose(total, wanted, rtol=1e-4)
    np.testing.assert_allclose(terms["kd"].total, expected["kd"].total, rtol=3e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), ours, theirs)


@pytest.mark.slow
def test_records_teach_the_same_on_every_mesh_and_in_microbatches(
    folder, corpus, teacher
):
    directory = folder / "meshes"
    record(job(corpus, teacher, mode=TopK(k=7)), directory)
    made = examples.experiment(corpus, OfflineTeacher(records=str(directory)))
    (params, total, _), _, _ = examples.gradients(made)
    mesh = runtime.Mesh(data=2, fsdp=2, tensor=2)
    (cut, cut_total, _), _, _ = examples.gradients(
        made, mesh=mesh, microbatches=2, head=in_blocks(5, examples.VOCABULARY)
    )
    np.testing.assert_allclose(total, cut_total, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), params, cut
    )


def test_a_mixture_of_teachers_is_recorded_like_one(folder, corpus, teacher):
    dataset = fdl.build(corpus).load()
    other = examples.write_run(folder / "second", dataset, seed=4)
    mixed = EnsembleTeacher(teachers=[teacher, OnlineTeacher(checkpoint=str(other))])
    records = record(job(corpus, mixed, mode=TopK(k=4)), folder / "mixed")
    assert records.manifest.origin.weights == mixed.identity()
    both = [
        np.exp(x - log_normalizer(x, 1.0)[..., None])
        for x in (
            whole_logits(teacher, dataset),
            whole_logits(OnlineTeacher(checkpoint=str(other)), dataset),
        )
    ]
    wanted = -np.sort(-(both[0] + both[1]) / 2, axis=-1)[3, :, 0]
    found = records.read(np.array([3]))[0]
    np.testing.assert_allclose(np.exp(-found.log_normalizers[:, 0]), wanted, rtol=1e-4)


def test_a_stop_and_a_second_process_change_no_byte(
    folder, corpus, teacher, monkeypatch
):
    recording = job(corpus, teacher, mode=TopK(k=3))
    record(recording, folder / "at-once")
    shared = folder / "in-shares"
    terminal = Terminal(io.StringIO())
    for process in range(2):
        share = runtime.Recording(processes=2, process=process)
        settings = runtime.Runtime(recording=share)
        monkeypatch.setattr(runtime, "current", lambda settings=settings: settings)
        recorder = recording.recorder()
        stops = iter([False] * 7 + [True])  # in the middle of its first shard
        rows = recording._write(recorder, shared, terminal, stops.__next__)
        assert rows == 0 and recorder.seal(shared) is None
        assert recording._write(recorder, shared, terminal, lambda: False) > 0
    assert recorder.seal(shared) is not None
    at_once, in_shares = (
        {path.name: path.read_bytes() for path in directory.iterdir()}
        for directory in (folder / "at-once", shared)
    )
    assert in_shares == at_once


# The job, as a user starts it


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
        found = sorted((self.folder / name / "records").iterdir())
        return {path.name: path.read_bytes() for path in found}

    def shards(self, name):
        return len(list((self.folder / name).glob("records/*.array_record.json")))


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
def test_a_signal_ends_it_in_one_line_and_it_goes_on(commands, whole):
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


# Mistakes


def test_numbers_that_are_none_are_refused(corpus, teacher):
    for fields, said in [
        ({"temperatures": (0.0,)}, "temperatures must be positive"),
        ({"mode": Sampled(n=2), "temperatures": (1.0, 2.0)}, "draws at one temperat"),
        ({"temperatures": ()}, "TopK stores at least one temperature"),
        ({"compression": "zip"}, "compression must be .*, got 'zip'"),
    ]:
        with pytest.raises(ValueError, match=said):
            job(corpus, teacher, **fields)
    for mode in (TopK, Sampled):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            mode(0)


def test_more_entries_than_the_vocabulary_are_refused(corpus, teacher):
    with pytest.raises(UserError, match="k is 301, the vocabulary has 300"):
        job(corpus, teacher, mode=TopK(k=301)).recorder()


def test_an_average_of_no_student_cannot_be_recorded(corpus):
    with pytest.raises(UserError, match="needs a student"):
        job(corpus, EMATeacher(), mode=TopK(k=2)).recorder()


def test_records_are_not_recorded_again(folder, corpus, teacher):
    record(job(corpus, teacher, mode=TopK(k=2)), folder / "again")
    with pytest.raises(UserError, match="cannot be recorded again"):
        job(corpus, OfflineTeacher(records=str(folder / "again"))).recorder()


def test_another_teacher_than_the_graph_asks_for_is_refused(folder, corpus, teacher):
    record(job(corpus, teacher, mode=TopK(k=2)), folder / "by-one")
    dataset = fdl.build(corpus).load()
    other = examples.write_run(folder / "other-teacher", dataset, seed=9)
    asked = OfflineTeacher(
        records=str(folder / "by-one"),
        teacher=OnlineTeacher(checkpoint=str(other)),
    )
    with pytest.raises(UserError, match="another teacher"):
        examples.ready(examples.experiment(corpus, asked))


def test_another_temperature_than_the_loss_asks_for_is_refused(folder, corpus, teacher):
    record(job(corpus, teacher, mode=TopK(k=2)), folder / "at-one")
    offline = OfflineTeacher(records=str(folder / "at-one"))
    terms = examples.kd(temperature=2.0)
    with pytest.raises(UserError, match=r"losses\.kd: .*temperature"):
        examples.ready(examples.experiment(corpus, offline, terms=terms))


def test_records_of_other_rows_are_refused(folder, corpus, teacher):
    record(job(corpus, teacher, mode=TopK(k=2)), folder / "rows")
    offline = OfflineTeacher(records=str(folder / "rows"))
    longer = fdl.copy_with(corpus, sequence_length=10)
    same, other = (fdl.build(source).load() for source in (corpus, longer))
    loaded = offline.load(examples.setting(same.vocabulary))
    assert loaded.covers(same) and not loaded.covers(other)
    with pytest.raises(UserError, match="other data"):
        examples.ready(examples.experiment(longer, offline))


def test_a_teacher_that_says_no_number_is_stopped(folder, corpus):
    dataset = fdl.build(corpus).load()
    run = examples.write_run(folder / "nan", dataset, scale=np.nan)
    made = job(corpus, OnlineTeacher(checkpoint=str(run)), mode=TopK(k=2))
    with pytest.raises(UserError, match="cannot be recorded"):
        record(made, folder / "nan-records")
    assert not list((folder / "nan-records").glob("*.array_record*"))


def test_the_note_of_the_cost_counts_rows_and_seconds(commands, whole):
    note = json.loads((commands.folder / "whole" / "recording.json").read_text())
    assert note["rows"] > 20 and note["seconds"] > 0
