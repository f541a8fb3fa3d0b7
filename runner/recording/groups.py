"""The best entries of wide rows of logits, and normalisers, by groups of neighbours.

    largest of each group -> the k groups whose largest are best -> best among these

An entry outside of the k groups has one of each group before it, since the ids of
groups are in order: entries, and the lower id among equal ones, are as if all had been
sorted. Each normaliser is a sum over groups, of which those over the rest leave out the
k and add what is left of them: no row is passed over twice.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from losses.core.outputs import log_sum_exp, none_of

GROUP = 128
_FEW = 3  # such parts of a row must be more than the entries of k groups


def serves(entries: int, k: int) -> bool:
    """Return whether groups hold few enough of a row's entries to be worth it."""
    return entries >= _FEW * k * GROUP


def best_entries(
    logits: jax.Array, k: int, temperatures: Sequence[float]
) -> dict[str, jax.Array]:
    """Return what `modes.TopK` stores of logits `[*b v]`."""
    padding = [(0, 0)] * (logits.ndim - 1) + [(0, -logits.shape[-1] % GROUP)]
    padded = jnp.pad(logits, padding, constant_values=-jnp.inf)
    cut = padded.reshape(*logits.shape[:-1], -1, GROUP)
    largest = jnp.max(cut, axis=-1)
    top = jnp.max(largest, axis=-1, keepdims=True)
    sums = [_log_sums(cut, largest, top, t) for t in temperatures]

    # The entries of the best groups, in the order of their ids.
    groups = jnp.sort(jax.lax.top_k(largest - top, k)[1], axis=-1)
    among = jnp.take_along_axis(cut, groups[..., None], axis=-2)
    among = among.reshape(*groups.shape[:-1], -1) - top
    best, places = jax.lax.top_k(among, k)
    group = jnp.take_along_axis(groups, places // GROUP, axis=-1)

    outside = none_of(groups, largest.shape)
    unstored = none_of(places, among.shape)
    rests = [
        jnp.concatenate(
            [
                jnp.where(outside, of_groups, -jnp.inf),
                jnp.where(unstored, among / t, -jnp.inf),
            ],
            axis=-1,
        )
        for t, of_groups in zip(temperatures, sums, strict=True)
    ]
    return {
        "indices": group * GROUP + places % GROUP,
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
