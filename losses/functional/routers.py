"""Losses of mixture-of-experts router logits, `[*b layer expert]`."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.functional.log_probs import kl
from losses.functional.masks import counted

RouterLogits = Float[Array, "*b l e"]
Assignments = Int[Array, "*b l k"]
PerToken = Float[Array, "*b"]
Scores = Literal["softmax", "sigmoid"]
Route = Int[Array, " n"]


def router_z_loss(
    router_logits: RouterLogits, *, layers: Literal["mean", "sum"] = "mean"
) -> PerToken:
    """Return `1/L Σ_l (log Σ_e exp r_{l,e})²`, nats².

    Source: Zoph et al. 2022, ST-MoE (arXiv:2202.08906), eq. 5.

    Args:
      router_logits: r.
      layers: the mean of the layers, or their sum.
    """
    log_z = jax.nn.logsumexp(router_logits.astype(jnp.float32), axis=-1)
    return over_layers(jnp.square(log_z), layers)


def load_balance(
    router_logits: RouterLogits,
    assignments: Assignments,
    mask: Bool[Array, "*b"] | None = None,
    *,
    layers: Literal["mean", "sum", "pooled"] = "mean",
    scale: Literal["experts_over_k", "experts"] = "experts_over_k",
    scores: Scores = "softmax",
) -> PerToken:
    """Return `1/L Σ_l E/k Σ_e f_{l,e} p_{l,e}`, f over the tokens of these arrays.

    The loss class takes f over the global batch.

    Source: Fedus et al. 2021, Switch Transformer (arXiv:2101.03961), eq. 4 to 6.

    Args:
      router_logits: p is their `scores`.
      assignments: the k experts that each token chose.
      mask: the tokens that count in f; None for all.
      layers: `"mean"` or `"sum"` of the layers; `"pooled"`, f and p averaged before
        their product.
      scale: `E/k`, or `E`.
      scores: as of `expert_scores`.
    """
    tokens = counted(mask, router_logits.shape[:-2])
    hits = expert_hits(router_logits, assignments)
    share = jnp.tensordot(tokens, hits, axes=tokens.ndim)
    share = share / jnp.maximum(jnp.sum(tokens), 1.0)
    return balance(
        router_logits, assignments, share, layers=layers, scale=scale, scores=scores
    )


def sequence_load_balance(
    router_logits: RouterLogits,
    assignments: Assignments,
    mask: Bool[Array, "*b"] | None = None,
    *,
    layers: Literal["mean", "sum", "pooled"] = "mean",
    scale: Literal["experts_over_k", "experts"] = "experts_over_k",
    scores: Scores = "softmax",
) -> PerToken:
    """Return `load_balance` with f over the token's own sequence, a row of axis 0.

    Source: DeepSeek-V2 (arXiv:2405.04434), eq. 23 to 25.

    Args:
      router_logits: p is their `scores`.
      assignments: the k experts that each token chose.
      mask: the tokens that count in f; None for all.
      layers: as in `load_balance`.
      scale: as in `load_balance`.
      scores: as of `expert_scores`.
    """
    hits = expert_hits(router_logits, assignments)
    axes = tuple(range(1, hits.ndim - 2))
    tokens = counted(mask, router_logits.shape[:-2])[..., None, None]
    counts = jnp.sum(tokens, axis=axes, keepdims=True)
    share = jnp.sum(hits * tokens, axis=axes, keepdims=True) / jnp.maximum(counts, 1.0)
    return balance(
        router_logits, assignments, share, layers=layers, scale=scale, scores=scores
    )


def router_distillation(
    student_router_logits: RouterLogits,
    teacher_router_logits: RouterLogits,
    temperature: float = 1.0,
) -> PerToken:
    """Return `1/L Σ_l KL(softmax(t_l / T) ‖ softmax(s_l / T))`, nats.

    Args:
      student_router_logits: s.
      teacher_router_logits: t, layer l beside the student's l.
      temperature: T.
    """
    log_p, log_q = (
        jax.nn.log_softmax(x.astype(jnp.float32) / temperature)
        for x in (teacher_router_logits, student_router_logits)
    )
    return over_layers(kl(log_p, log_q), "mean")


def balance(
    router_logits: RouterLogits,
    assignments: Assignments,
    share: Float[Array, "*l e"],
    *,
    layers: Literal["mean", "sum", "pooled"],
    scale: Literal["experts_over_k", "experts"],
    scores: Scores,
) -> PerToken:
    """Return `scale · Σ_e f_{l,e} p_{l,e}` over the layers l.

    Args:
      router_logits: p is their `scores`.
      assignments: their number a token is k.
      share: f, broadcast to `[*b layer expert]`; its gradient is stopped.
      layers: as in `load_balance`.
      scale: as in `load_balance`.
      scores: as of `expert_scores`.
    """
    p = expert_scores(router_logits, scores)
    share = jax.lax.stop_gradient(jnp.broadcast_to(share, p.shape))
    if layers == "pooled":
        p, share = (jnp.mean(x, axis=-2, keepdims=True) for x in (p, share))
    by_layer = jnp.sum(share * p, axis=-1)
    k = assignments.shape[-1]
    factor = p.shape[-1] / (k if scale == "experts_over_k" else 1)
    reduction = "sum" if layers == "sum" else "mean"
    return over_layers(by_layer, reduction) * jnp.float32(factor)


def expert_scores(router_logits: RouterLogits, scores: Scores) -> RouterLogits:
    """Return p, which sums to 1 over the experts, float32.

    Args:
      router_logits: r.
      scores: `softmax(r)`, or `σ(r)` over its sum.
    """
    logits = router_logits.astype(jnp.float32)
    if scores == "softmax":
        return jax.nn.softmax(logits, axis=-1)
    # `σ(r) / Σ σ(r)` is the softmax of `log σ(r)`, whose sum never underflows.
    return jax.nn.softmax(jax.nn.log_sigmoid(logits), axis=-1)


def expert_hits(router_logits: RouterLogits, assignments: Assignments) -> RouterLogits:
    """Return 1 where the token chose the expert, float32 `[*b layer expert]`."""
    hits = jax.nn.one_hot(assignments, router_logits.shape[-1], dtype=jnp.float32)
    return jnp.sum(hits, axis=-2)


def over_layers(
    values: Float[Array, "*b l"], layers: Literal["mean", "sum"]
) -> Float[Array, "*b"]:
    """Return the mean or the sum of `[*b layer]` over the layers."""
    return (jnp.mean if layers == "mean" else jnp.sum)(values, axis=-1)


def route_distance(
    shares: Float[Array, "n l e"],
    there: Bool[Array, " n"] | None = None,
    *,
    mass: float = 0.7,
) -> Float[Array, ""]:
    """Return the mean edit distance between the routes of two rows, over all pairs.

    Source: arXiv:2506.21551, its pathway distance.

    Args:
      shares: of the experts in each layer, over a row's tokens.
      there: the rows that count.
      mass: that the experts of a layer have together, the greatest first.
    """
    size = len(shares)
    counts = jnp.ones(size, bool) if there is None else there
    routes, lengths = routes_of(shares.astype(jnp.float32), mass=mass)

    def of_row(row: tuple[Route, Int[Array, ""]]) -> Int[Array, " n"]:
        return jax.vmap(functools.partial(edit_distance, *row))(routes, lengths)

    distances = jax.lax.map(of_row, (routes, lengths)).astype(jnp.float32)
    both = counts[:, None] & counts[None, :] & ~jnp.eye(size, dtype=bool)
    pairs = jnp.maximum(jnp.sum(both, dtype=jnp.float32), 1.0)
    return jnp.sum(jnp.where(both, distances, 0.0)) / pairs


def route_consistency(
    embeddings: Float[Array, "n l d"], there: Bool[Array, " n"] | None = None
) -> Float[Array, ""]:
    """Return `mean_i 1 - mean_l c_il / (max_l c_il + 1e-8)`.

    `c_il` is the cosine between the embeddings of layers l and l + 1.

    Source: arXiv:2506.21551, its consistency of a pathway.

    Args:
      embeddings: e, of rows by layer, at least two.
      there: the rows that count.
    """
    e = embeddings.astype(jnp.float32)
    counts = jnp.ones(len(e), bool) if there is None else there
    norms = jnp.linalg.norm(jnp.where(counts[:, None, None], e, 1.0), axis=-1)
    products = jnp.sum(e[:, :-1] * e[:, 1:], axis=-1)
    cosines = products / jnp.maximum(norms[:, :-1] * norms[:, 1:], 1e-12)
    values = 1.0 - jnp.mean(cosines, axis=-1) / (jnp.max(cosines, axis=-1) + 1e-8)
    count = jnp.maximum(jnp.sum(counts, dtype=jnp.float32), 1.0)
    return jnp.sum(jnp.where(counts, values, 0.0)) / count


def routes_of(
    shares: Float[Array, "n l e"], *, mass: float
) -> tuple[Int[Array, "n m"], Int[Array, " n"]]:
    """Return routes `[n l·e]` as numbers of expert and layer, and their lengths."""
    rows, layers, experts = shares.shape
    order = jnp.argsort(-shares, axis=-1)
    ranked = jnp.take_along_axis(shares, order, axis=-1)
    before = jnp.cumsum(ranked, axis=-1) - ranked
    within = (before < mass) | (mass >= 1.0)
    numbers = order + experts * jnp.arange(layers).reshape(1, layers, 1)
    within, numbers = (x.reshape(rows, layers * experts) for x in (within, numbers))
    first = jnp.argsort(
        ~within, axis=-1
    )  # stable: in their order, what is within first
    routes = jnp.take_along_axis(numbers, first, axis=-1)
    return routes, jnp.sum(within, axis=-1)


def edit_distance(
    one: Route, length: Int[Array, ""], other: Route, other_length: Int[Array, ""]
) -> Int[Array, ""]:
    """Return the least insertions, deletions and substitutions (Levenshtein)."""
    places = jnp.arange(len(other) + 1)

    def step(row: Int[Array, " m"], at: tuple) -> tuple[Int[Array, " m"], None]:
        index, symbol = at
        inner = jnp.minimum(row[1:] + 1, row[:-1] + (other != symbol).astype(row.dtype))
        new = jnp.concatenate([row[:1] + 1, inner])
        # An insertion costs 1 a place: the least of all places before, at once.
        new = jax.lax.cummin(new - places) + places
        return jnp.where(index < length, new, row), None

    row, _ = jax.lax.scan(step, places, (jnp.arange(len(one)), one))
    return row[other_length]
