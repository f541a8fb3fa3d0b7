"""A corpus, a trained run by hand, and an experiment, all tiny."""

import json

import fiddle as fdl
import jax
import numpy as np
import optax

import losses
import models
import runner
from losses import LossTerm
from runner import atomic_files, data, runtime
from runner.checkpoint.checkpoints import Checkpoints
from runner.graph import to_json
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.teachers import TeacherContext

VOCABULARY = 300
TEXT = "A teacher says how probable every token is; a student listens, and not to one. "
TEACHER = fdl.Partial(
    models.Transformer, vocab_size=VOCABULARY, dim=24, num_layers=2, num_heads=2
)
STUDENT = fdl.Partial(
    models.Transformer,
    vocab_size=VOCABULARY,
    dim=16,
    num_layers=1,
    num_heads=2,
    tie_head=True,
)


def source(folder, *, text=TEXT, vocab_size=VOCABULARY, length=12):
    """Two documents, packed; the tokenizer is trained on them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.txt").write_text(text * 9)
    (folder / "b.txt").write_text(text[::-1] * 7)
    documents = fdl.Config(data.TextFiles, files=[str(folder / "*.txt")])
    return fdl.Config(
        data.TokenizedText,
        documents=documents,
        tokenizer=fdl.Config(data.ByteBPE, documents=documents, vocab_size=vocab_size),
        sequence_length=length,
    )


def write_run(path, dataset, *, student=TEACHER, seed=1, scale=3.0, change=None):
    """What a run leaves behind that a teacher needs; a head that is rather sure."""
    path.mkdir(parents=True)
    modules = TrainModules(fdl.build(student), [], optax.sgd(1.0))
    mesh = mesh_lib.make(runtime.Mesh(data=8))
    state = modules.create(seed, mesh, runtime.Mesh().rules)
    # On one device: of eight, Orbax compiles a program for each slice that one writes.
    state = jax.device_put(jax.device_get(state), jax.devices()[0])
    sure = jax.tree.map(
        lambda x: jax.device_put(np.float32(scale) * np.asarray(x)),
        state.params["student"],
    )
    if change is not None:
        sure = jax.tree_util.tree_map_with_path(change, sure)
    state.params["student"] = sure
    with Checkpoints(path / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(1, state)
    described = {"train_data": dataset.describe()}
    atomic_files.write_atomic(path / "data.json", json.dumps(described))
    atomic_files.write_atomic(
        path / "tokenizer.json", dataset.vocabulary.tokenizer.to_str()
    )
    cfg = fdl.Config(runner.Experiment, student=student)
    atomic_files.write_atomic(path / "config.json", to_json.to_json(cfg))
    return path


def kd(**options):
    """A distillation term and a label term."""
    return [
        LossTerm(name="ce", loss=losses.CrossEntropy(), weight=0.5),
        LossTerm(name="kd", loss=losses.ForwardKL(**options)),
    ]


def experiment(corpus, teacher, *, terms=None, student=STUDENT, **fields):
    """Two steps on all of it."""
    return runner.Experiment(
        student=fdl.build(student),
        teacher=teacher,
        losses=kd() if terms is None else terms,
        train_data=fdl.build(corpus),
        optimizer=optax.adam(1e-2),
        num_steps=2,
        batch_size=8,
        **fields,
    )


def ready(experiment, *, mesh=None, head=None, **step):
    """Prepared on a mesh, by default of eight."""
    config = runtime.Runtime(
        mesh=mesh or runtime.Mesh(data=8),
        step=runtime.Step(**step),
        head=head or runtime.Head(),
    )
    return experiment.prepare(config)


def gradients(experiment, **cuts):
    """Gradients, total and terms of the first batch on the host; batch; Prepared."""
    setup = ready(experiment, **cuts)
    with setup.batches(start=0) as batches:
        batch = next(batches)

    @jax.jit
    def compute(*arguments):
        found = setup.step.gradients(*arguments)
        return found.params, found.total, found.terms

    found = compute(setup.initial_state(), batch, setup.step.frozen)
    return jax.device_get(found), batch, setup


def setting(vocabulary):
    """On a mesh of eight, without a student."""
    mesh = mesh_lib.make(runtime.Mesh(data=8))
    return TeacherContext(vocabulary=vocabulary, mesh=mesh, rules=runtime.Mesh().rules)
