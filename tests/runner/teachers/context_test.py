"""A teacher over rows of the data's: where its outputs stand, online and recorded."""

import dataclasses
import functools
import json

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
import runner
from losses import LossTerm
from runner import data
from runner.data.dataset import Column
from runner.errors import UserError
from runner.recording.modes import TopK
from runner.records import shards
from runner.teachers.around import require_model
from runner.teachers.base import LoadedTeacher, TeacherTrunk
from runner.teachers.combined import LoadedCombined
from runner.teachers.context import LoadedContext, require_targets
from runner.teachers.prompted import prompted_rows
from runner.teachers.routed_models import LoadedRoutedModels
from tests.runner.exchange import teacher as made_up
from tests.runner.teachers import examples

PROMPT = np.array([31, 32, 33], np.int32)


class Echo(LoadedTeacher):
    """A teacher whose outputs are what it reads: token, position, segment."""

    def describe(self):
        return {}

    def trunk(self, frozen, ema, batch, *, capture, logits):
        names = ("tokens", "positions", "segment_ids")
        stacked = jnp.stack([batch[name] for name in names], axis=-1)
        return TeacherTrunk(tokens=stacked, head_params={}, outputs=lambda *_: None)


def read(loaded, batch):
    arrays = {name: jnp.asarray(x) for name, x in batch.items()}
    trunk = loaded.trunk({}, {}, arrays, capture=frozenset(), logits=True)
    return np.asarray(trunk.tokens)


require = functools.partial(require_targets, vocab_size=40)


def with_prompt():
    """Rows of one document, each with the prompt in a row of the teacher's."""
    tokens = np.array([[9, 1, 2, 3], [9, 4, 5, 0]], np.int32)
    targets = np.array([[1, 2, 3, 9], [4, 5, 9, 0]], np.int32)
    ids = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.int32)
    rows = {"tokens": tokens, "targets": targets, "segment_ids": ids, "mask": ids > 0}
    longer, places = prompted_rows(
        {name: jnp.asarray(x) for name, x in rows.items()}, PROMPT, begin=9, segments=1
    )
    inside = np.asarray(longer["segment_ids"]) > 0
    own = np.pad(np.where(inside, longer["tokens"], -1), ((0, 0), (0, 1)), "constant")
    own[:, -1] = -1
    own[np.arange(2), inside.sum(1)] = 9  # the end, which is predicted too
    at = np.where(ids > 0, np.asarray(places) + 1, -1).astype(np.int32)
    return rows | {"own": own.astype(np.int32), "at": at}


def test_outputs_are_those_before_the_targets_places():
    batch = with_prompt()
    require(batch, np.arange(2), tokens="own", places="at")
    said = read(LoadedContext(Echo(), tokens="own", places="at"), batch)
    expected = batch["tokens"] * batch["mask"]
    expected[:, 0] = PROMPT[-1]  # which stands after what begins the document
    np.testing.assert_array_equal(said[..., 0] * batch["mask"], expected)
    # As far in as the prompt is long.
    positions = np.where(batch["mask"], np.arange(4) + 3, 0)
    np.testing.assert_array_equal(said[..., 1] * batch["mask"], positions)


def test_a_target_that_is_not_at_its_place_is_refused():
    batch = with_prompt()
    batch["at"][1, 2] += 1
    with pytest.raises(
        UserError, match=r"row 5, position 2: its target is token 9, and at its place 7"
    ):
        require(batch, np.array([4, 5]), tokens="own", places="at")
    with pytest.raises(UserError, match="must hold a row of ids"):
        require(batch, np.array([4, 5]), tokens="mask", places="own")


@pytest.mark.parametrize(
    ("place", "token"), [(0, 40), (1, -1), (2, -2)], ids=["beyond", "amid", "below"]
)
def test_a_row_that_is_not_of_tokens_is_refused(place, token):
    batch = with_prompt()
    batch["own"][1, place] = token
    message = rf"row 5: 'own' must hold ids below 40, .* place {place} holds {token}$"
    if token == -1:
        message = r"row 5: 'own' must hold ids below 40, .* place 2 holds 32$"
    with pytest.raises(UserError, match=message):
        require(batch, np.array([4, 5]), tokens="own", places="at")


def test_members_check_the_rows_that_they_read():
    """Every combination of teachers asks each of its members."""
    echo = LoadedContext(Echo(), tokens="own", places="at")
    dataset = made_up.dataset()
    for loaded in (
        LoadedCombined({"a": Echo(), "b": echo}, sum, {}, entrywise=True),
        LoadedRoutedModels("route", {0: Echo(), 1: echo}),
    ):
        columns = {"route": Column(values=np.zeros(7, np.int32), by="row")}
        assert {"own", "at"} <= loaded.columns
        assert not loaded.covers(dataset.with_columns(columns))
        with pytest.raises(UserError, match="the data has no column 'own'"):
            loaded.rows_with_records(dataset.with_columns(columns))
        columns |= {
            name: Column(values=np.zeros((7, 16), np.int32), by="row")
            for name in ("own", "at")
        }
        joined = loaded.rows_with_records(dataset.with_columns(columns))
        with pytest.raises(UserError, match="row 2, position 0: its target is"):
            joined.rows(np.array([2]))


def test_rows_that_are_not_the_datas_have_none_of_its_columns():
    require_model(Echo(), otherwise="")
    inner = LoadedContext(Echo(), tokens="own", places="at")
    for loaded in (inner, LoadedCombined({"a": inner}, sum, {}, entrywise=True)):
        with pytest.raises(UserError, match="it reads the data's 'at', 'own', which"):
            require_model(loaded, otherwise="")


def test_records_of_a_context_are_those_of_its_columns():
    inner = runner.ServedTeacher(url="http://localhost:1", model="m")
    nodes = [
        runner.ContextTeacher(teacher=inner, **columns)
        for columns in ({}, {"tokens": "demonstrations"}, {"places": "at"})
    ]
    assert len({node.identity() for node in nodes}) == 3


def test_a_column_holds_lists(tmp_path):
    dataset = made_up.dataset()
    lists = [[7] * (row % 3 + 1) for row in range(len(dataset))]
    lines = tmp_path / "lists.jsonl"
    lines.write_text("".join(json.dumps({"a": x}) + "\n" for x in lists))
    padded = np.array([[7] * len(x) + [-1] * (3 - len(x)) for x in lists], np.int32)
    data.write_columns(tmp_path / "lists.npz", {"a": padded}, dataset=dataset)
    for name in ("lists.jsonl", "lists.npz"):
        joined = data.Columns(Rows(), str(tmp_path / name), ["a"]).load()
        values = joined.rows(np.arange(3))["a"]
        assert values.dtype == np.int32
        np.testing.assert_array_equal(values, padded[:3])
        np.testing.assert_array_equal(
            joined.part(2).rows(np.arange(2))["a"][0], padded[0]
        )
    lines.write_text('{"a": [1, 0.5]}\n' * len(dataset))
    with pytest.raises(UserError, match="entry 0 must be a list of integers"):
        data.Columns(Rows(), str(lines), ["a"]).load()


@dataclasses.dataclass(frozen=True)
class Rows(data.DataSource):
    """Seven rows."""

    def check(self):
        pass

    def load(self, *, cache=""):
        return made_up.dataset()


@pytest.mark.slow
def test_records_hold_what_the_teacher_says_given_its_own_rows(tmp_path):
    """Each row's own context, live and from records; without one, something else."""
    corpus = examples.source(tmp_path / "corpus")
    dataset = fdl.build(corpus).load()
    run = examples.write_run(tmp_path / "run", dataset)
    rows = dataset.rows(np.arange(len(dataset)))
    context = np.random.default_rng(0).integers(1, 250, (len(dataset), 4))
    own = np.concatenate([context, rows["tokens"], rows["targets"][:, -1:]], axis=1)
    at = np.where(rows["mask"], 5 + np.arange(12), -1)
    columns = {"teacher_tokens": own, "teacher_places": at}
    data.write_columns(tmp_path / "own.npz", columns, dataset=dataset)
    joined = data.Columns(
        fdl.build(corpus),
        str(tmp_path / "own.npz"),
        ["teacher_tokens", "teacher_places"],
    )
    online = runner.OnlineTeacher(checkpoint=str(run))
    live = runner.ContextTeacher(teacher=online)
    terms = [
        LossTerm(name="kd", loss=losses.ForwardKL(), mask=_first_document),
    ]
    experiment = dataclasses.replace(
        examples.experiment(corpus, live, terms=terms), train_data=joined
    )
    recorder = runner.RecordTeacher(
        teacher=live, data=joined, mode=TopK(k=examples.VOCABULARY), batch_size=8
    ).recorder()
    shards.write_shard(
        tmp_path / "records",
        0,
        1,
        recorder.records(range(len(dataset))),
        recorder.layout,
        first=0,
    )
    recorder.seal(tmp_path / "records")
    stored = runner.OfflineTeacher(records=str(tmp_path), teacher=live)
    values = []
    for teacher in (live, stored, online):
        (_, _, terms), _, _ = examples.gradients(
            dataclasses.replace(experiment, teacher=teacher)
        )
        values.append(float(jax.device_get(terms["kd"]).total))
    live, stored, without = values
    np.testing.assert_allclose(stored, live, rtol=2e-3)
    assert abs(stored - live) < 0.2 * abs(without - live)


def _first_document(batch):
    return batch["mask"] & (batch["segment_ids"] == 1)
