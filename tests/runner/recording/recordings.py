"""Recordings of a tiny teacher in this process, and its logits by the model alone."""

import io

import fiddle as fdl
import jax
import numpy as np

from runner.recording.job import RecordTeacher
from runner.records.reader import Records
from runner.writers.terminal import Terminal
from tests.runner.teachers import examples


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
    frozen = jax.device_get(loaded.read())
    model = loaded.make(frozen["params"], frozen["variables"])
    rows = dataset.rows(np.arange(len(dataset)))
    forward = jax.jit(lambda model, rows: model.head(model.trunk(rows).hidden))
    logits = np.asarray(forward(model, rows))
    logits = logits.astype(np.float64)
    return logits - logits.max(-1, keepdims=True)


def log_normalizer(logits, temperature):
    return np.log(np.exp(logits / temperature).sum(-1))
