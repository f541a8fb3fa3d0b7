"""One compiled step a loss, by tiles of the vocabulary."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

import losses
from losses.core import term_values
from losses.core.tiles import Tile
from losses.core.vocab_sums import SumRequests
from losses.core.vocab_sums_pass import VocabSumsPass
from tests.losses import table
from tests.losses.table import LOSSES

ROWS = {
    "jensen_shannon",
    "skew_forward_kl",
    "skew_reverse_kl",
    "total_variation",
    "alpha_divergence",
    "alpha_divergence_of_two",
    "alpha_beta_divergence",
    "bag_loss",
    "bag_loss_of_squares",
    "class_bias",
    "logit_graph",
    "negative_flip",
    "positive_flip",
    "renyi_divergence",
    "adaptive_kl",
    "todi",
    "decoupled_kd",
    "normalized_kd",
    "plackett_luce",
    "scheduled",
    "standardized",
    "inter_class_correlation",
    "interpolated",
    "intra_class_correlation",
    "own_head",
    "over_student_best",
    "agreement",
}
"""Losses that want a sum before the first sum, omit an entry, sort, or own rows."""

BY_SUMS = {
    name: row
    for name, row in LOSSES.items()
    if name not in ROWS and "logits" in row.loss.needs
}
WIDTH = 3


def tiled_outputs(form, outputs, sums, *, vocabulary, teacher_width):
    """`outputs` without a row of logits."""
    whole = form == "whole"
    teacher = outputs.teacher
    if whole:
        teacher = dataclasses.replace(teacher, logits=None)
    return losses.TiledOutputs(
        batch=outputs.batch,
        intermediates=outputs.intermediates,
        teacher=teacher,
        num_rows=outputs.num_rows,
        sums=sums,
        vocabulary=vocabulary,
        teacher_width=teacher_width if whole else None,
    )


def _means(term, outputs, masks):
    """The means of a term's statistics over these tokens."""
    sums = term_values.statistic_sums([term], outputs, masks=masks)
    count = jnp.maximum(jnp.sum(masks[term.name], dtype=jnp.float32), 1.0)
    return jax.tree.map(lambda value: value / count, sums)


def by_tiles(row, floats, fixed, scales=table.ALONE, *, width):
    """The total of `table.steps` and its gradient in the logits, tile by tile."""
    outputs = table.outputs(row.teacher, floats, fixed)
    logits = floats["logits"]
    teacher = floats["teacher/logits"]
    means = {}
    if term_values.wants_means(row.loss):  # known before the gradients, as in a step
        (term,), masks = table.terms({"term": row}), {"term": fixed["mask"]}
        means = _means(term, outputs, masks)

    def value(sums):
        def outputs_of(form):
            return tiled_outputs(
                form,
                outputs,
                sums,
                vocabulary=logits.shape[-1],
                teacher_width=teacher.shape[-1],
            )

        sums_of = table.weighted({"term": row}, outputs_of, fixed, means, scales)
        return sums_of["term"][0]

    def tiles():
        for start in range(0, logits.shape[-1], width):
            ids = jnp.arange(start, min(start + width, logits.shape[-1]))
            beyond = ids >= teacher.shape[-1]
            teacher_tile = teacher[..., jnp.where(beyond, 0, ids)]
            yield Tile(ids=ids[None], student=logits[..., ids], teacher=teacher_tile)

    # One pass collects the sums; a second gives each tile its gradient.
    requests = SumRequests(fixed["targets"].shape)
    value(requests)
    sums_pass = VocabSumsPass(requests)
    state = sums_pass.start()
    for tile in tiles():
        state = sums_pass.add_tile(state, tile)
    sums = sums_pass.results(state)
    total, cotangents = jax.value_and_grad(value)(sums)
    grads = [
        jax.grad(
            lambda student, tile=tile: sums_pass.tangent(
                tile._replace(student=student), state, sums, cotangents
            )
        )(tile.student)
        for tile in tiles()
    ]
    return total, jnp.concatenate(grads, axis=-1)


@functools.cache
def compiled_tiles(name, width):
    """Jitted `by_tiles` of one row."""
    run = jax.jit(functools.partial(by_tiles, LOSSES[name], width=width))
    # An argument whatever it is: one program.
    return lambda floats, fixed, scales=table.ALONE: run(floats, fixed, scales)
