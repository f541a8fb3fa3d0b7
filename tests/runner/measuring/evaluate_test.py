"""Models that are there already, measured side by side."""

import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

import losses
from models import pretrained
from runner import Evaluate, Evaluation, OnlineTeacher, data, main, runtime
from runner.export.job import Export
from runner.measuring import measured
from tests.runner.sampling.folders import published

SAVED = Path(__file__).parents[2] / "compatibility" / "saved_4c223cb"
RUN = str(SAVED / "teacher")
CONFIG = runtime.Runtime(mesh=runtime.Mesh(data=4, tensor=2))


def held_out(tokenizer, **fields):
    documents = data.TextFiles(files=[str(SAVED / "text.txt")])
    text = data.TokenizedText(
        documents=documents, tokenizer=tokenizer, sequence_length=32
    )
    some = data.Part(data=text, num_rows=27)  # no multiple of the batch
    return Evaluation(name="held_out", data=some, batch_size=8, **fields)


def job(**fields):
    tokenizer = data.TokenizerFile(file=f"{RUN}/tokenizer.json")
    return Evaluate(
        **{
            "models": {"first": RUN, "same": f"{RUN}@4"},
            "evaluations": [held_out(tokenizer)],
            **fields,
        }
    )


# dear: compiles two evaluations, which the tests below read too
@pytest.fixture(scope="module")
def rows():
    tokenizer = data.TokenizerFile(file=f"{RUN}/tokenizer.json")
    one = held_out(tokenizer, metrics=[losses.ZLoss()])
    better = str(SAVED / "student")
    both = job(
        models={"same": better, "start": RUN},
        evaluations=[one],
        teacher=OnlineTeacher(checkpoint=better),
        start="start",
    )
    return both.measure(CONFIG)[0]


def test_a_model_is_itself_where_it_is_the_teacher(rows):
    same, start = (row.metrics for row in rows)
    assert same["kl"] == pytest.approx(0.0, abs=1e-6) and same["agreement"] == 1.0
    assert same["loss"] == pytest.approx(same["teacher/loss"], rel=1e-6)
    assert same["gap_closed"] == pytest.approx(1.0, abs=1e-6)
    assert start["gap_closed"] == 0.0 and start["kl"] > 1e-4
    assert start["teacher/loss"] == same["teacher/loss"]
    assert same["metrics/z_loss"] == pytest.approx(same["teacher/metrics/z_loss"])
    assert same["share"] == 1.0 and "terms/loss" not in same


def test_the_table_has_a_row_for_each_model_and_one_for_the_teacher(rows):
    lines = measured.text(rows).splitlines()
    assert lines[0].split()[:2] == ["held_out", "nats"]
    assert sorted(line.split()[0] for line in lines[1:]) == [
        *("same", "start", "teacher")
    ]
    assert "z_loss" in lines[0] and "gap closed" in lines[0]


def test_a_published_model_has_the_loss_of_its_logits(tmp_path):
    folder = published(tmp_path / "published")
    tokenizer = data.TokenizerFile(file=str(folder / "tokenizer.json"))
    one = held_out(tokenizer)
    ((row,), models) = job(models={"it": str(folder)}, evaluations=[one]).measure(
        CONFIG
    )
    # Every row at once, in float64 from the logits of the same files.
    dataset = one.data.load(cache="")
    batch = dataset.rows(np.arange(len(dataset)))
    model = pretrained.open_model(folder).load()
    forward = jax.jit(lambda batch: model.head(model.trunk(batch).hidden))
    logits = np.asarray(forward(batch), np.float64)
    log_q = logits - np.log(np.sum(np.exp(logits), -1, keepdims=True))
    nats = -np.take_along_axis(log_q, batch["targets"][..., None].astype(int), -1)[
        ..., 0
    ]
    expected = nats[batch["mask"].astype(bool)].mean()
    assert row.metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert models["it"]["path"] == str(folder) and len(models["it"]["digest"]) == 32


# dear: compiles an evaluation of each
@pytest.mark.slow
def test_a_run_and_its_exported_forms_are_the_same_side_by_side(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    tokenizer = Tokenizer.from_file(str(run / "tokenizer.json"))
    # Of the ways to cut a text that llama.cpp knows, one for its file.
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    (run / "tokenizer.json").write_text(tokenizer.to_str())
    for kind in ("hf", "gguf"):
        Export(workdir=str(run), to=str(tmp_path / kind), format=kind).write()
    one = held_out(data.TokenizerFile(file=str(run / "tokenizer.json")))
    places = {
        "run": str(run),
        "run at a step": f"{run}@4",
        "folder": str(tmp_path / "hf"),
        "file": str(tmp_path / "gguf" / "model.gguf"),
    }
    teacher = OnlineTeacher(checkpoint=str(run))
    compared = job(models=places, evaluations=[one], teacher=teacher)
    rows, models = compared.measure(CONFIG)
    assert [row.model for row in rows] == list(places)
    assert [described["path"] for described in models.values()] == list(places.values())
    first = rows[0].metrics
    for row in rows:
        assert row.metrics["loss"] == pytest.approx(first["loss"], rel=1e-6)
        assert row.metrics["kl"] == pytest.approx(0.0, abs=1e-6)
        assert row.metrics["agreement"] == 1.0
    lines = measured.text(rows).splitlines()
    assert {line.split("  ")[0] for line in lines[1:]} == {*places, "teacher"}


def test_the_work_directory_holds_result_and_page(rows, tmp_path):
    (tmp_path / "config.txt").write_text("<root>: runner.Evaluate\n")
    page = measured.write(tmp_path, rows, {"same": {"path": RUN}})
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["evaluations"]) == {
        *("same on held_out", "start on held_out", "teacher on held_out")
    }
    text = page.read_text()
    for name in ("same on held_out", "teacher on held_out"):
        assert name in text


# dear: compiles the evaluation of a run as the command does
@pytest.mark.slow
def test_the_command_measures_a_run_at_its_newest_checkpoint(
    tmp_path, monkeypatch, capsys
):
    shutil.copytree(SAVED, tmp_path / "saved")
    monkeypatch.chdir(tmp_path / "saved")
    before = (tmp_path / "saved/teacher/metrics.jsonl").read_text()
    command = ["runner", "--workdir=teacher", "--gin.input.cache=cache"]
    assert main.main([*command, "--evaluate"]) == 0
    assert "newest (step 4)" in capsys.readouterr().out
    result = json.loads(Path("teacher/evaluation/result.json").read_text())
    (metrics,) = result["evaluations"].values()
    logged = [json.loads(line) for line in before.splitlines()]
    loss = next(x["held_out/loss"] for x in reversed(logged) if "held_out/loss" in x)
    assert metrics["loss"] == pytest.approx(loss, rel=2e-3)
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
    assert Path("teacher/evaluation/report.html").exists()
    assert Path("teacher/metrics.jsonl").read_text() == before
    assert main.main([*command, "--evaluate=helt_out"]) == 2
    assert "did you mean 'held_out'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"models": {}}, "models must name at least one"),
        ({"evaluations": []}, "evaluations must hold at least one"),
        (
            {"start": "first"},
            "start is where the gap to a teacher begins; give teacher",
        ),
        ({"start": "x"}, "start must be one of the models"),
    ],
)
def test_a_job_that_measures_nothing_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        job(**fields)


def test_a_model_that_is_not_there_is_named(capsys):
    from runner.errors import UserError

    with pytest.raises(UserError, match=r"models\.lost: no such file or folder: lost"):
        job(models={"lost": "lost"}).check()
    with pytest.raises(UserError, match=r"models\.first: another tokenizer than"):
        folder = SAVED  # any other tokenizer
        tokenizer = data.ByteBPE(
            documents=data.TextFiles(files=[str(folder / "README.txt")]),
            vocab_size=260,
        )
        job(evaluations=[held_out(tokenizer)]).measure(CONFIG)


def test_an_evaluation_needs_a_run(capsys):
    assert main.main(["runner", "--fdl_config=configs/moe.py", "--evaluate"]) == 2
    assert (
        "--evaluate measures a run; give its --workdir=DIR" in capsys.readouterr().err
    )
