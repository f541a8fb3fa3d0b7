"""Surroundings that starts are loaded for."""

import fiddle as fdl
import jax
import optax

import losses
from runner import runtime, starts
from runner.checkpoint import tree_paths
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules

CE = [losses.LossTerm(name="ce", loss=losses.CrossEntropy())]


def context(student, dataset, *, seed=0, mesh=None, **fields):
    """Of a student under cross-entropy and Adam, on a mesh of eight."""
    modules = TrainModules(fdl.build(student), CE, optax.adam(1e-3))
    return starts.StartContext(
        modules=modules,
        mesh=mesh_lib.make(mesh or runtime.Mesh(data=8)),
        rules=runtime.Mesh().rules,
        seed=seed,
        dataset=dataset,
        **fields,
    )


def student_of(state):
    """The student's parameters on the host, by path."""
    return tree_paths.by_path(jax.device_get(state.params["student"]))
