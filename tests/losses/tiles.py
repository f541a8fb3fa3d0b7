"""Losses by tiles of the vocabulary, and one compiled step of them all."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import losses
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
    "of_teacher",
    "sorted_logits",
    "negative_flip",
    "positive_flip",
    "renyi_divergence",
    "acceptance",
    "accepted_length",
    "draft",
    "value_distance",
    "adaptive_kl",
    "todi",
    "decoupled_kd",
    "normalized_kd",
    "plackett_luce",
    "scheduled",
    "standardized",
    "with_prior",
    "inter_class_correlation",
    "interpolated",
    "taid",
    "intra_class_correlation",
    "own_head",
    "over_student_best",
    "agreement",
    "uld",
    "hybrid_uld",
    "minillm",
    "zero_one",
    "one_candidate",
    "recall_at",
    "ndcg_at",
    "aspects",
    "uskd",
    "logit_graph_raw",
    "on_second_head",
    "on_view",
    "worst_view",
    "view_kl",
    "logit_pairing",
    "margin_shift",
}
"""Losses that want a sum before the first sum, omit an entry, sort, or own rows."""

BY_SUMS = {
    name: row
    for name, row in LOSSES.items()
    if name not in ROWS and "logits" in row.loss.needs
}
WIDTH = 4


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


def _means(rows, floats, fixed):
    """By row that wants any, the means of its statistics over these tokens."""
    count = jnp.maximum(jnp.sum(fixed["mask"], dtype=jnp.float32), 1.0)
    sums = table.statistic_sums(rows, floats, fixed)
    return jax.tree.map(lambda value: value / count, sums)


def by_tiles(rows, floats, fixed, scales=table.ALONE, *, width):
    """Totals as those of `table.steps`, and their gradients in the logits, by tiles.

    Losses share the sums that they ask for, as the terms of a step do.

    Args:
      rows: of the table, by name; the totals are in their order, `[row]`.
      floats: arrays of `table.arrays`.
      fixed: the others.
      scales: weights of each loss and of those beside it.
      width: of a tile; the last may be narrower.
    """
    logits, teacher = floats["logits"], floats["teacher/logits"]
    widths = {"vocabulary": logits.shape[-1], "teacher_width": teacher.shape[-1]}
    means = _means(rows, floats, fixed)

    def totals(sums):
        def outputs_of(form):
            outputs = table.outputs(form, floats, fixed)
            return tiled_outputs(form, outputs, sums, **widths)

        results = table.weighted(rows, outputs_of, fixed, means, scales)
        return jnp.stack([results[name][0] for name in rows])

    def tiles():
        for start in range(0, logits.shape[-1], width):
            ids = jnp.arange(start, min(start + width, logits.shape[-1]))
            beyond = ids >= teacher.shape[-1]
            teacher_tile = teacher[..., jnp.where(beyond, 0, ids)]
            yield Tile(ids=ids[None], student=logits[..., ids], teacher=teacher_tile)

    # One pass collects the sums; a second gives each tile its gradient.
    requests = SumRequests(fixed["targets"].shape)
    totals(requests)
    sums_pass = VocabSumsPass(requests)
    state = sums_pass.start()
    for tile in tiles():
        state = sums_pass.add_tile(state, tile)
    sums = sums_pass.results(state)
    of_rows, pullback = jax.vjp(totals, sums)
    (cotangents,) = jax.vmap(pullback)(jnp.eye(len(rows)))

    def gradient(cotangents, tile):
        def tangent(student):
            moved = tile._replace(student=student)
            return sums_pass.tangent(moved, state, sums, cotangents)

        return jax.grad(tangent)(tile.student)

    grads = [
        jax.vmap(functools.partial(gradient, tile=tile))(cotangents) for tile in tiles()
    ]
    return of_rows, jnp.concatenate(grads, axis=-1)


class Result(NamedTuple):
    """The weighted sum of a term and those beside it, its gradient in the logits."""

    total: np.ndarray
    grad: np.ndarray


def steps(floats, fixed, scales=table.ALONE, *, names=tuple(BY_SUMS), width=WIDTH):
    """`Result` of each row, by name."""
    totals, grads = jax.device_get(compiled_steps(names, width)(floats, fixed, scales))
    if len(names) > 1 and not np.all(np.isfinite(grads)):
        # As in `table.steps`: one infinite gradient makes all others NaN.
        return {
            name: steps(floats, fixed, scales, names=(name,), width=width)[name]
            for name in names
        }
    return {name: Result(totals[i], grads[i]) for i, name in enumerate(names)}


@functools.cache
def compiled_steps(names: tuple[str, ...], width: int):
    """Jitted `by_tiles` of these rows."""
    rows = {name: LOSSES[name] for name in names}
    return jax.jit(functools.partial(by_tiles, rows, width=width))
