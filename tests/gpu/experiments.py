"""Experiments of a shape: bfloat16 products, float32 parameters, random tokens."""

import functools
from pathlib import Path

import fiddle as fdl
import gin

import losses
import models
import runner
from configs import dense
from runner import runtime
from runner.records import shards
from runner.train.setup import Setup
from tests.gpu.data import RandomTokens, UntrainedTeacher
from tests.gpu.settings import Shape

GIN = Path(__file__).resolve().parents[2] / "configs/runtime/gpu.gin"
ENTRIES = 64


def experiment(
    shape: Shape, length: int, *, rows: int, window: int | None = None
) -> fdl.Buildable:
    """Return the graph of training on labels, `rows` a step."""
    cfg = dense.config.as_buildable()
    cfg.evaluations, cfg.batch_size = [], rows
    cfg.train_data = fdl.Config(RandomTokens, shape.vocabulary, length)
    cfg.student = fdl.Partial(
        models.Transformer,
        vocab_size=shape.vocabulary,
        dim=shape.dim,
        num_layers=shape.layers,
        num_heads=shape.heads,
        num_kv_heads=shape.kv_heads,
        mlp=fdl.Partial(models.GatedMLP, hidden_dim=shape.inner),
        attention_window=window,
        tie_head=True,
        dtype="bfloat16",
    )
    return cfg


def prepare(cfg: fdl.Buildable) -> Setup:
    """Return an experiment on the device, under `configs/runtime/gpu.gin`."""
    gin.parse_config_file(str(GIN))
    return fdl.build(cfg).prepare(runtime.current())


def teacher(shape: Shape) -> UntrainedTeacher:
    """Return a teacher of the student's own shape, in bfloat16."""
    cfg = experiment(shape, 2, rows=1)
    model = fdl.build(cfg.student)
    return UntrainedTeacher(model=model, dtype="bfloat16")


def recording(shape: Shape, length: int, *, rows: int) -> runner.RecordTeacher:
    """Return the job that records the teacher, `rows` at a time."""
    gin.parse_config_file(str(GIN))
    return runner.RecordTeacher(
        teacher=teacher(shape),
        data=RandomTokens(shape.vocabulary, length, num_rows=4 * rows),
        batch_size=rows,
    )


def teach_online(cfg: fdl.Buildable, shape: Shape) -> None:
    """Let a student learn from the teacher beside it, by the generalised JSD at 0.5."""
    cfg.teacher = teacher(shape)
    loss = fdl.Config(losses.JensenShannon, beta=0.5)
    cfg.losses = [fdl.Config(losses.LossTerm, name="jsd", loss=loss)]


def teach_offline(cfg: fdl.Buildable, shape: Shape, folder: Path) -> None:
    """Let it learn from records of the teacher, and from labels at half the weight."""
    length, rows = cfg.train_data.sequence_length, cfg.batch_size
    job = recording(shape, length, rows=rows)
    recorder = job.recorder()
    numbers = range(len(recorder.dataset))
    shards.write_shard(
        folder, 0, 1, recorder.records(numbers), recorder.layout, first=0
    )
    recorder.seal(folder)
    cfg.train_data = job.data
    cfg.teacher = fdl.Config(runner.OfflineTeacher, records=str(folder))
    term = functools.partial(fdl.Config, losses.LossTerm)
    cfg.losses = [
        term(name="ce", loss=fdl.Config(losses.CrossEntropy), weight=0.5),
        term(name="kd", loss=fdl.Config(losses.ForwardKL)),
    ]
