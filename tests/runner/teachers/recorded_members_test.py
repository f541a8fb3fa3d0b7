"""Records of several teachers as one: mixtures of entries, and the surest teacher."""

# Best entries have ids and logits, which `TeacherOutputs` leaves open.
# pyright: reportOptionalSubscript=false, reportOptionalOperand=false

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

import losses
from runner.errors import UserError
from runner.exchange.importing import Choices, import_records
from runner.records.layout import Layout
from runner.teachers import (
    EMATeacher,
    EnsembleTeacher,
    FusedTeacher,
    MostConfidentTeacher,
    OfflineTeacher,
    TeacherContext,
)
from runner.teachers.recorded_members import LoadedRecordMembers, mixture, surest
from tests.runner.exchange import producers
from tests.runner.exchange import teacher as made_up

V, K = 9, 3
FORM = Layout(mode="top_k", entries=8, vocab_size=300, sequence_length=16)
LOGITS = np.random.default_rng(3).normal(size=(2, 5, V), scale=2.0)


def probabilities():
    p = np.exp(LOGITS)
    return p / p.sum(-1, keepdims=True)


def best(logits, k):
    """What records of `k` best entries say."""
    ids = np.argsort(-logits, axis=-1, kind="stable")[:, :k]
    others = np.ones(logits.shape, bool)
    np.put_along_axis(others, ids, False, axis=-1)
    rest = np.where(others, np.exp(logits), 0.0).sum(-1)
    with np.errstate(divide="ignore"):
        log_rest = np.log(rest)
    return losses.TeacherOutputs(
        indices=jnp.asarray(ids, jnp.int32),
        logits=jnp.asarray(np.float32(np.take_along_axis(logits, ids, -1))),
        log_normalizers={1.0: jnp.asarray(np.float32(np.log(np.exp(logits).sum(-1))))},
        log_rests={1.0: jnp.asarray(log_rest, jnp.float32)},
    )


def test_a_mixture_of_all_entries_is_the_mixture():
    p = 0.75 * probabilities()[0] + 0.25 * probabilities()[1]
    result = mixture([best(x, V) for x in LOGITS], [0.75, 0.25])
    ids = np.asarray(result.indices)
    np.testing.assert_array_equal(np.sort(ids, -1), np.tile(np.arange(V), (5, 1)))
    entries = np.exp(np.asarray(result.logits))
    np.testing.assert_allclose(entries, np.take_along_axis(p, ids, -1), rtol=1e-5)
    assert (np.exp(np.asarray(result.log_rests[1.0])) < 1e-6).all()


def test_a_mixture_of_best_entries_has_what_was_stored_and_the_rest():
    shares, p = [0.6, 0.4], probabilities()
    result = mixture([best(x, K) for x in LOGITS], shares)
    for token in range(5):
        stored = np.zeros(V)
        for share, own in zip(shares, p, strict=True):
            for index in np.argsort(-own[token])[:K]:
                stored[index] += share * own[token, index]
        wanted = np.argsort(-stored, kind="stable")[:K]
        np.testing.assert_array_equal(result.indices[token], wanted)
        np.testing.assert_allclose(
            np.exp(result.logits[token]), stored[wanted], rtol=1e-5
        )
        rest = float(np.exp(result.log_rests[1.0][token]))
        np.testing.assert_allclose(rest, 1 - stored[wanted].sum(), rtol=1e-4)


def test_the_surest_records_teach_each_token():
    result = surest([best(x, K) for x in LOGITS])
    p = probabilities()
    which = p[1].max(-1) > p[0].max(-1)
    assert which.any() and not which.all()
    for token, second in enumerate(which):
        own = best(LOGITS[int(second)], K)
        np.testing.assert_array_equal(result.indices[token], own.indices[token])
        np.testing.assert_array_equal(result.logits[token], own.logits[token])
        assert result.log_rests[1.0][token] == own.log_rests[1.0][token]


class Stored:
    """As far as a combination reads records before it reads rows."""

    cautions = ()

    def __init__(self, mode, temperatures=(1.0, 2.0)):
        self.stored = losses.RecordSpec(mode=mode, temperatures=temperatures)
        layout = dataclasses.replace(FORM, temperatures=temperatures)
        self.records = types.SimpleNamespace(layout=layout)


def test_combinations_say_what_records_they_read():
    teachers = [EMATeacher()] * 2
    entries = {"a": Stored("top_k"), "b": Stored("top_k", (1.0,))}
    mean = EnsembleTeacher(teachers=teachers)._of_records(entries)
    assert mean.stored == losses.RecordSpec(mode="top_k", temperatures=(1.0,))
    alike = {name: Stored("top_k", (1.0,)) for name in entries}
    one = MostConfidentTeacher(teachers=teachers)._of_records(alike)
    assert one.stored == losses.RecordSpec(mode="top_k", temperatures=(1.0,))
    whole = EnsembleTeacher(teachers=teachers, average="logits")
    full = {"a": Stored("full"), "b": Stored("full")}
    assert whole._of_records(full).stored.mode == "full"
    for node in (
        whole,
        FusedTeacher(base=teachers[0], expert=teachers[0], antiexpert=teachers[0]),
    ):
        with pytest.raises(UserError, match="wants whole logits, and the records hold"):
            node._of_records(entries)
    with pytest.raises(UserError, match=r"b: its records hold full, the first top_k"):
        LoadedRecordMembers({"a": Stored("top_k"), "b": Stored("full")}, surest, {})


def outputs(node, numbers):
    """What a teacher of records says of some rows, and which tokens it knows."""
    data = made_up.dataset()
    context = TeacherContext(vocabulary=data.vocabulary, mesh=None, rules=())
    loaded = node.load(context)
    assert loaded.covers(data)
    rows = loaded.rows_with_records(data).rows(numbers)
    batch = {name: jnp.asarray(x) for name, x in rows.items()}
    trunk = loaded.trunk({}, {}, batch, capture=frozenset(), logits=True)
    return trunk.outputs({}, {}, batch), rows


def test_the_surest_is_chosen_of_records_of_one_form():
    node = MostConfidentTeacher(teachers=[EMATeacher()] * 2)
    for other in ({"entries": 4}, {"temperatures": (1.0, 2.0)}, {"format": 1}):
        layouts = FORM, dataclasses.replace(FORM, **other)
        records = {str(i): Recorded(x) for i, x in enumerate(layouts)}
        with pytest.raises(UserError, match=r"^1: its records hold .*, the first 8"):
            node._of_records(records)


class Recorded:
    """As far as the form of its records."""

    def __init__(self, layout):
        self.records = types.SimpleNamespace(layout=layout)


@pytest.mark.slow
def test_an_ensemble_of_one_teachers_records_is_that_teacher(tmp_path):
    source, data = tmp_path / "answers.jsonl", made_up.dataset()
    producers.write_lines(source, map(producers.vllm_answer, producers.sequences()[4:]))
    choices = Choices(partial=True)
    import_records("vllm", source, tmp_path / "records", data, choices)
    stored = OfflineTeacher(records=str(tmp_path / "records"))
    numbers = np.array([3, 0, 6])
    alone, own_rows = outputs(stored, numbers)
    known = own_rows["teacher/known"]
    for node in (
        EnsembleTeacher(teachers=[stored, stored], weights=[1.0, 3.0]),
        MostConfidentTeacher(teachers=[stored, stored]),
    ):
        both, rows = outputs(node, numbers)
        np.testing.assert_array_equal(rows["teacher/known"], known)
        np.testing.assert_array_equal(both.indices[known], alone.indices[known])
        for outside in (False, True):
            said = [x.log_rests[1.0] if outside else x.logits for x in (alone, both)]
            own, merged = (
                said_by - z if outside else said_by - z[..., None]
                for said_by, z in zip(
                    said, (x.log_normalizer(1.0) for x in (alone, both)), strict=True
                )
            )
            np.testing.assert_allclose(merged[known], own[known], atol=2e-5)
    with pytest.raises(UserError, match="it gives records, or best entries"):
        mixed = EnsembleTeacher(teachers=[Model(), stored])
        outputs(mixed, numbers)


class Model(EMATeacher):
    """As far as it is no records."""

    def load(self, context):
        return LiveMember()


class LiveMember:
    """A member without records."""

    stored = None
