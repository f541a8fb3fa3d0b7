"""A teacher of another tokenizer in a step: values by hand, from both models."""

import dataclasses

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
import runner
from losses import LossTerm
from runner import data, runtime
from runner.aligning.common_entries import CommonEntries
from runner.aligning.rows import RowAligner
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.recording.modes import TopK
from runner.records import shards
from runner.teachers.aligned import LoadedAligned
from runner.teachers.base import LoadedTeacher
from runner.teachers.prompted import LoadedPrompted
from tests.runner.exchange import teacher as made_up
from tests.runner.teachers import examples

THEIRS = 280
OTHER = "The reaches of a chat: to each one heat, eat, says the ache. "
TERMS = {
    "likelihood": losses.SpanLikelihood(temperature=2.0),
    "uld": losses.ULD(),
    "hybrid": losses.HybridULD(),
    "kl": losses.ForwardKL(),
    "aligned": losses.AlignedShare(),
    "ce": losses.CrossEntropy(),
}


def prepared(folder, *, terms=TERMS, **fields):
    """Data, a teacher's run whose tokenizer learnt from other texts, an experiment."""
    corpus = examples.source(folder / "corpus")
    theirs = examples.source(folder / "others", text=OTHER, vocab_size=THEIRS)
    dataset = fdl.build(theirs).load()
    width = fdl.Partial(
        examples.TEACHER.__fn_or_cls__,
        **{**examples.TEACHER.__arguments__, "vocab_size": THEIRS},
    )
    run = examples.write_run(folder / "run", dataset, student=width)
    node = runner.Aligned(
        teacher=runner.OnlineTeacher(checkpoint=str(run)),
        tokenizer=data.TokenizerFile(
            file=str(run / "tokenizer.json"), end="<|endoftext|>"
        ),
        **{"positions": 36, "best": 5, **fields},
    )
    items = [LossTerm(name=name, loss=loss) for name, loss in terms.items()]
    return examples.experiment(corpus, node, terms=items), dataset


@pytest.mark.slow
def test_the_values_are_those_of_both_models_on_the_same_text(tmp_path):
    experiment, _ = prepared(tmp_path)
    (_, _, values), batch, setup = examples.gradients(experiment)
    host = jax.device_get(batch)
    teacher, state = setup.step.teacher, setup.initial_state()
    arrays = teacher.read()
    model = teacher.teacher.make(arrays["params"], arrays["variables"])
    own = {
        name: host[f"teacher/{name}"] for name in ("tokens", "segment_ids", "positions")
    }
    log_p = log_softmax(model.head(model.trunk(own).hidden)[..., :THEIRS])
    student = setup.modules.student(state.params["student"], {})
    log_q = log_softmax(student.head(student.trunk(host).hidden))

    totals = dict.fromkeys(TERMS, 0.0)
    count = 0
    for row in range(len(host["tokens"])):
        spans, own_spans = host["teacher/spans"][row], host["teacher/own_spans"][row]
        for span in sorted(set(spans.tolist()) - {0}):
            mine = np.flatnonzero(spans == span)
            theirs = np.flatnonzero(own_spans == span)
            q = log_q[row, mine, host["targets"][row, mine]]
            p = log_p[row, theirs, host["teacher/targets"][row, theirs]]
            a, b = np.exp(p.sum() / 2), np.exp(q.sum() / 2)
            totals["likelihood"] += a * np.log(a / b)
            totals["likelihood"] += (1 - a) * np.log((1 - a) / (1 - b))
            ranked_q = -np.sort(-np.exp(log_q[row, mine[-1]] + q[:-1].sum()))
            ranked_p = -np.sort(-np.exp(log_p[row, theirs[-1]] + p[:-1].sum()))
            ranked_p = np.pad(ranked_p, (0, len(ranked_q) - len(ranked_p)))
            totals["uld"] += np.abs(ranked_q - ranked_p).sum()
            totals["kl"] += by_entries(
                setup, np.exp(log_p[row, theirs[0]]), np.exp(log_q[row, mine[0]])
            )
            count += 1
    for name in ("likelihood", "uld", "kl"):
        np.testing.assert_allclose(float(values[name].total), totals[name], rtol=2e-4)
        assert int(values[name].count) == count
    aligned = (host["teacher/spans"] > 0) & host["mask"]
    assert float(values["aligned"].total) == aligned.sum()
    assert int(values["ce"].count) == host["mask"].sum() > count


def by_entries(setup, p, q):
    """The KL over the teacher's five best shared entries and one for the rest."""
    aligner = setup.step.teacher._aligner
    shared = aligner.shared
    best = np.argsort(-p[shared.teacher], kind="stable")[:5]
    p, q = p[shared.teacher[best]], q[shared.student[best]]
    p, q = np.append(p, 1 - p.sum()), np.append(q, 1 - q.sum())
    return float((p * np.log(p / q)).sum())


def log_softmax(logits):
    return np.asarray(jax.nn.log_softmax(jnp.float32(logits)), np.float64)


@pytest.mark.slow
def test_records_say_of_spans_what_the_live_teacher_says(tmp_path):
    """Documents lie whole in rows: what stands before a token is the same."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        words = (examples.TEXT + OTHER).split()
        text = " ".join(words[(5 * number + 3 * i) % len(words)] for i in range(9))
        (folder / f"{number}.txt").write_text(text)
    experiment, _ = prepared(tmp_path, terms={"likelihood": TERMS["likelihood"]})
    live = experiment.teacher
    assert isinstance(live, runner.Aligned)
    documents = data.TextFiles(files=[str(folder / "*.txt")])
    ours, theirs = (
        data.TokenizedText(
            documents=documents, tokenizer=x, sequence_length=64, packing="whole"
        )
        for x in (experiment.train_data.tokenizer, live.tokenizer)  # pyright: ignore[reportAttributeAccessIssue] - of `examples.source`
    )
    recording = runner.RecordTeacher(
        teacher=live.teacher, data=theirs, mode=TopK(k=THEIRS), batch_size=8
    )
    recorder = recording.recorder()
    shards.write_shard(
        tmp_path / "records",
        0,
        1,
        recorder.records(range(len(recorder.dataset))),
        recorder.layout,
        first=0,
    )
    recorder.seal(tmp_path / "records")
    stored = dataclasses.replace(
        live, teacher=runner.OfflineTeacher(records=str(tmp_path)), data=theirs
    )
    live = dataclasses.replace(live, positions=96)
    values = []
    for teacher in (live, stored):
        both = dataclasses.replace(experiment, train_data=ours, teacher=teacher)
        (_, _, terms), _, _ = examples.gradients(both)
        values.append(terms["likelihood"])
    assert float(values[0].count) == float(values[1].count) > 100
    np.testing.assert_allclose(
        float(values[1].total), float(values[0].total), rtol=2e-3
    )


def test_what_cannot_be_aligned_is_refused():
    tokenizer = data.TokenizerFile(file="tokenizer.json")
    teacher = runner.OnlineTeacher(checkpoint="run")
    with pytest.raises(ValueError, match="positions must be at least 1, got 0"):
        runner.Aligned(teacher=teacher, tokenizer=tokenizer, positions=0)
    with pytest.raises(ValueError, match="temperatures must be positive"):
        runner.Aligned(teacher=teacher, tokenizer=tokenizer, temperatures=(0.0,))
    with pytest.raises(UserError, match=r"tokenizer: no such tokenizer file"):
        runner.Aligned(teacher=runner.EMATeacher(), tokenizer=tokenizer).check()


def test_the_state_of_the_inner_teacher_goes_with_the_run():
    online = runner.OnlineTeacher(checkpoint="run")
    node = runner.Aligned(
        teacher=runner.ScheduledTeacher(teachers=[online] * 2, from_steps=[0, 1]),
        tokenizer=data.TokenizerFile(file="tokenizer.json"),
    )
    state = node.init_state({})
    assert int(node.update_state(state, {}, jnp.int32(3))["step"]) == 3


def test_the_inner_teacher_checks_the_rows_that_it_reads():
    """Without a word, a prompted one gave NaN to documents beyond its room."""
    dataset = made_up.dataset()
    own = dataset.vocabulary
    aligner = RowAligner(student=own, teacher=own, positions=64)
    prompted = LoadedPrompted(Model(), np.arange(1, 3), begin=own.begin, segments=2)
    entries = CommonEntries.of(
        aligner.shared, student=own.size, teacher=own.size, best=2, temperatures=(1.0,)
    )
    mesh = mesh_lib.make(runtime.Mesh())
    rows = LoadedAligned(prompted, aligner, entries, mesh).rows_with_records(dataset)
    rows.rows(np.array([4]))
    with pytest.raises(UserError, match=r"row 3 has 3 documents, .*: segments=3"):
        rows.rows(np.array([4, 3]))


class Model(LoadedTeacher):
    """As far as it reads any rows."""

    def describe(self):
        return {}

    def trunk(self, *_, **__):
        raise NotImplementedError
