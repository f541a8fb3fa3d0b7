"""Records of a teacher: beside its own logits, as a teacher again, and refused."""

import io

import fiddle as fdl
import jax
import numpy as np
import pytest

from runner import runtime
from runner.errors import UserError
from runner.recording.job import RecordTeacher
from runner.recording.modes import Full, Sampled, TopK
from runner.teachers import (
    EMATeacher,
    EnsembleTeacher,
    OfflineTeacher,
    OnlineTeacher,
)
from runner.writers.terminal import Terminal
from tests.heads import in_blocks
from tests.runner.recording.recordings import job, log_normalizer, record, whole_logits
from tests.runner.teachers import examples


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


def test_the_top_k_entries_are_the_teachers(folder, corpus, teacher):
    recording = job(corpus, teacher, mode=TopK(k=5), temperatures=(1.0, 2.0))
    records = record(recording, folder / "top")
    dataset = fdl.build(corpus).load()
    logits = whole_logits(teacher, dataset)
    assert len(records) == len(dataset) > 20
    # The reference is another float32 pass. This teacher is ill-conditioned: weights
    # changed by a relative 1e-7 move its log-normalisers by up to 5e-5.
    two_passes = 1e-4
    for number, row in enumerate(records.read(np.arange(len(records)))):
        order = np.argsort(-logits[number], axis=-1)[:, :5]
        best = np.take_along_axis(logits[number], order, -1)
        read = np.concatenate([np.zeros((12, 1)), row.logits], axis=1)
        others = logits[number].copy()
        np.put_along_axis(others, row.ids, -np.inf, axis=-1)
        np.testing.assert_allclose(read, best, atol=3e-4)
        at = np.take_along_axis(logits[number], row.ids, -1)
        np.testing.assert_allclose(at, best, atol=two_passes)  # the same, but for ties
        for place, temperature in enumerate((1.0, 2.0)):
            np.testing.assert_allclose(
                row.log_normalizers[:, place],
                log_normalizer(logits[number], temperature),
                atol=two_passes,
            )
            np.testing.assert_allclose(
                row.log_rests[:, place],
                log_normalizer(others, temperature),
                atol=two_passes,
            )


def test_draws_have_the_frequencies_of_the_teacher(folder, corpus, teacher):
    recording = job(corpus, teacher, mode=Sampled(n=4000), temperatures=(2.0,))
    records = record(recording, folder / "draws")
    logits = whole_logits(teacher, fdl.build(corpus).load())
    p = np.exp(logits / 2.0 - log_normalizer(logits, 2.0)[..., None])
    for number in (0, 7):
        row = records.read(np.array([number]))[0]
        for place in range(12):
            ids = row.ids
            assert ids is not None
            counted = np.bincount(ids[place], minlength=300) / 4000
            gap = np.abs(counted - p[number, place])
            assert np.all(gap < 5 * np.sqrt(p[number, place] / 4000) + 1e-3)
        entropy = -np.sum(p[number] * np.log(p[number]), -1)
        np.testing.assert_allclose(row.entropies[:, 0], entropy, atol=1e-4)


def test_draws_depend_on_the_seed_and_the_row_alone(folder, corpus, teacher):
    one = job(corpus, teacher, mode=Sampled(n=6))
    other = RecordTeacher(
        teacher=teacher, data=one.data, mode=Sampled(n=6), batch_size=16, shard_size=50
    )
    left = record(one, folder / "one")
    right = record(other, folder / "other")
    seeded = record(job(corpus, teacher, mode=Sampled(n=6), seed=1), folder / "seeded")
    numbers = np.arange(len(left))
    ids = [[x.ids for x in records.read(numbers)] for records in (left, right, seeded)]
    np.testing.assert_array_equal(ids[0], ids[1])
    assert (np.array(ids[0]) != np.array(ids[2])).mean() > 0.3


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
    expected = -np.sort(-(both[0] + both[1]) / 2, axis=-1)[3, :, 0]
    row = records.read(np.array([3]))[0]
    np.testing.assert_allclose(np.exp(-row.log_normalizers[:, 0]), expected, rtol=1e-4)


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
    (theirs, expected_total, expected), _, _ = examples.gradients(
        examples.experiment(corpus, teacher)
    )
    np.testing.assert_allclose(total, expected_total, rtol=1e-4)
    np.testing.assert_allclose(terms["kd"].total, expected["kd"].total, rtol=3e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), ours, theirs)


@pytest.mark.slow
def test_records_teach_the_same_on_every_mesh_and_in_microbatches(
    folder, corpus, teacher
):
    directory = folder / "meshes"
    record(job(corpus, teacher, mode=TopK(k=7)), directory)
    distilled = examples.experiment(corpus, OfflineTeacher(records=str(directory)))
    (params, total, _), _, _ = examples.gradients(distilled)
    mesh = runtime.Mesh(data=2, fsdp=2, tensor=2)
    (cut, cut_total, _), _, _ = examples.gradients(
        distilled, mesh=mesh, microbatches=2, head=in_blocks(5, examples.VOCABULARY)
    )
    np.testing.assert_allclose(total, cut_total, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), params, cut
    )


def test_invalid_fields_of_a_recording_are_refused(corpus, teacher):
    for fields, message in [
        ({"temperatures": (0.0,)}, "temperatures must be positive"),
        ({"mode": Sampled(n=2), "temperatures": (1.0, 2.0)}, "draws at one temperat"),
        ({"temperatures": ()}, "TopK stores at least one temperature"),
        ({"compression": "zip"}, "compression must be .*, got 'zip'"),
        ({"coding": "zip"}, "one of plain, packed, rounded, got 'zip'"),
        ({"coding": "packed", "mode": Sampled(n=2)}, "of TopK records alone"),
    ]:
        with pytest.raises(ValueError, match=message):
            job(corpus, teacher, **fields)
    for mode in (TopK, Sampled):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            mode(0)


def test_more_entries_than_the_vocabulary_are_refused(corpus, teacher):
    with pytest.raises(UserError, match="k is 301, the vocabulary has 300"):
        job(corpus, teacher, mode=TopK(k=301)).recorder()


def test_a_teacher_that_needs_a_student_cannot_be_recorded(corpus):
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


def test_a_teacher_of_nan_logits_is_refused(folder, corpus):
    dataset = fdl.build(corpus).load()
    run = examples.write_run(folder / "nan", dataset, scale=np.nan)
    recording = job(corpus, OnlineTeacher(checkpoint=str(run)), mode=TopK(k=2))
    with pytest.raises(UserError, match="cannot be recorded"):
        record(recording, folder / "nan-records")
    assert not list((folder / "nan-records").glob("*.array_record*"))
