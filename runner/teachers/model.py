"""A model as a teacher: its trunk once a microbatch, its head a block at a time."""

from collections.abc import Callable
from typing import Any

import jax

import losses
from models.base import Batch, Model
from runner.head import Head
from runner.teachers.base import Lesson

Tree = Any


def model_lesson(
    make: Callable[[Tree, Tree], Model],
    params: Tree,
    variables: Tree,
    batch: Batch,
    *,
    capture: frozenset[str],
    vocab_size: int | None,
) -> Lesson:
    """The lesson of the model `make(params, variables)`.

    vocab_size: outputs beyond the tokenizer's ids are padding, and are cut off before
      the softmax; None: no logits are wanted.
    """
    params, variables = jax.lax.stop_gradient((params, variables))
    seen = make(params, variables).trunk(batch, capture=capture)
    tokens = {"hidden": seen.hidden, "intermediates": dict(seen.intermediates)}
    if vocab_size is None:
        tokens = {"intermediates": tokens["intermediates"]}
        return Lesson(tokens=tokens, shared={}, outputs=_intermediates)
    head = Head(make, params, variables, seen.hidden)

    def outputs(shared: Tree, tokens: Tree, batch: Batch) -> losses.TeacherOutputs:
        del batch
        logits = head(shared["head"], shared["variables"], tokens["hidden"])
        return losses.TeacherOutputs(
            logits=logits[..., :vocab_size], intermediates=tokens["intermediates"]
        )

    shared = {"head": head.leaves(params), "variables": variables}
    return Lesson(tokens=tokens, shared=shared, outputs=outputs)


def _intermediates(shared: Tree, tokens: Tree, batch: Batch) -> losses.TeacherOutputs:
    del shared, batch
    return losses.TeacherOutputs(intermediates=tokens["intermediates"])
