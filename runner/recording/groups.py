"""The best entries of wide rows of logits, and normalisers, by groups of neighbours.

    largest of each group -> the k groups whose largest are best -> best among these

Entries, and the lower id among equal ones, are as if all had been sorted. Each
normaliser is a sum over groups, of which those over the rest leave out the k and add
what is left of them: no row is passed over twice.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from losses.core.outputs import log_sum_exp, none_of
from runner.recording.largest import candidates, ids, in_groups, largest

GROUP = 128
_FEW = 3  # the k groups hold at most one such part of a row


def serves(entries: int, k: int) -> bool:
    """Return whether groups hold few enough of a row's entries to be worth it."""
    return entries >= _FEW * k * GROUP


def best_entries(
    logits: jax.Array, k: int, temperatures: Sequence[float]
) -> dict[str, jax.Array]:
    """Return what `modes.TopK` stores of logits `[*b v]`."""
    cut = in_groups(logits, GROUP)
    of_groups = jnp.max(cut, axis=-1)
    top = jnp.max(of_groups, axis=-1, keepdims=True)
    sums = [_log_sums(cut, of_groups, top, t) for t in temperatures]

    chosen, among = candidates(cut, of_groups - top, k)
    among = among - top
    best, places = largest(among, k)

    outside = none_of(chosen, of_groups.shape)
    unstored = none_of(places, among.shape)
    rests = [
        jnp.concatenate(
            [
                jnp.where(outside, log_sums, -jnp.inf),
                jnp.where(unstored, among / t, -jnp.inf),
            ],
            axis=-1,
        )
        for t, log_sums in zip(temperatures, sums, strict=True)
    ]
    return {
        "indices": ids(chosen, places, GROUP),
        "logits": best,
        "log_normalizers": jnp.stack([log_sum_exp(x) for x in sums], axis=-1),
        "log_rests": jnp.stack([log_sum_exp(x) for x in rests], axis=-1),
    }


def _log_sums(
    cut: jax.Array, largest: jax.Array, top: jax.Array, temperature: float
) -> jax.Array:
    """`log Σ exp((x - top) / T)` of each group, `[*b groups]`, from its largest on."""
    finite = jnp.where(largest == -jnp.inf, 0.0, largest)
    scores = (cut - finite[..., None]) / temperature
    return jnp.log(jnp.sum(jnp.exp(scores), axis=-1)) + (finite - top) / temperature
