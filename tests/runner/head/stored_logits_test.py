"""Stored logits, by the compiler's text."""

import functools
import math
import re

import jax
import jax.numpy as jnp

import losses
import models
from runner import optimizers, runtime
from runner.machine import mesh
from runner.state.trainable import TrainModules
from runner.step.compiled_step import CompiledStep

TOKENS, VOCABULARY = (4, 16), 64
ZEROS = re.compile(r"f32\[([\d,]+)\]\S* broadcast\(\S*(?:constant|param)\S*\), dim")


def test_no_zeros_as_large_as_stored_logits_are_made():
    """A scan that stacked its tiles filled an array of their size first."""
    student = functools.partial(
        models.Transformer, vocab_size=VOCABULARY, dim=8, num_layers=1, num_heads=2
    )
    terms = [losses.LossTerm(name="ce", loss=losses.CrossEntropy())]
    config = runtime.Runtime(head=runtime.Head(smallest_tile=8))
    step = CompiledStep(
        TrainModules(student, terms, optimizers.adamw(1e-3)),
        mesh=mesh.over(config.mesh, jax.devices()[:1]),
        config=config,
        seed=0,
    )
    tokens = jax.ShapeDtypeStruct(TOKENS, jnp.int32)
    names = ("tokens", "segment_ids", "positions", "targets")
    batch = dict.fromkeys(names, tokens) | {
        "mask": jax.ShapeDtypeStruct(TOKENS, jnp.bool_),
        "index": jax.ShapeDtypeStruct(TOKENS[:1], jnp.int32),
    }
    plan = step.head_plan(batch)
    assert plan.by_sums and plan.entries < VOCABULARY
    text = step.compiled.lower(*step.abstract_arguments(batch)).compile().as_text()
    assert text is not None
    sizes = [math.prod(map(int, dims.split(","))) for dims in ZEROS.findall(text)]
    assert sizes and max(sizes) < math.prod(TOKENS) * VOCABULARY
