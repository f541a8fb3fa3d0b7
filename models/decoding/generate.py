"""Autoregressive generation with a key-value cache."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, layer_attention, sharding
from models.attention import Rotation
from models.block import Block
from models.decoding import draws
from models.transformer import Transformer

Cache = tuple[jax.Array, jax.Array]


def generate(
    model: Transformer,
    prompts: jax.typing.ArrayLike,
    lengths: jax.typing.ArrayLike | None = None,
    *,
    num_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    key: jax.Array | None = None,
    end: int | Sequence[int] | None = None,
) -> jax.Array:
    """Return the `num_tokens` tokens after each prompt, `[b num_tokens]`.

    Args:
      model: any `Transformer`.
      prompts: `[b p]`, row i padded on the right beyond `lengths[i]`.
      lengths: `[b]`, at least 1; None is no padding.
      num_tokens: how many tokens follow each prompt.
      temperature: 0 takes the most probable token; above, tokens are drawn with
        `key`, see `models.decoding.draws.Draws`.
      top_k: as there.
      top_p: as there.
      key: for draws: one, or one a row, with which a row draws the same beside any
        others.
      end: a row that has produced this token, or one of these, repeats it.

    Raises:
      ValueError: for a number out of range, or a positive temperature without a key.
    """
    checks.positive(num_tokens=num_tokens)
    draws.Draws(temperature=temperature, top_k=top_k, top_p=top_p)
    if temperature > 0 and key is None:
        raise ValueError(f"temperature {temperature} needs a key")

    # Prompts of one length need no padding.
    prompts = jnp.asarray(prompts)
    rows, longest = prompts.shape
    lengths = jnp.full((rows,), longest) if lengths is None else jnp.asarray(lengths)
    if prompts.shape[:1] != lengths.shape:
        raise ValueError(
            f"lengths must be one a prompt, got {lengths.shape} for {prompts.shape}"
        )

    # Numbers are arrays even where they are not used: a change of them does not compile
    # anew.
    graph, state = nnx.split(model)
    return _generate(
        state,
        prompts=prompts,
        lengths=lengths,
        temperature=jnp.float32(temperature),
        top_p=None if top_p is None else jnp.float32(top_p),
        key=jax.random.key(0) if key is None else key,
        graph=graph,
        num_tokens=num_tokens,
        greedy=temperature == 0,
        top_k=top_k,
        ends=_ids(end),
        context=sharding.current(),
    )


# `context` is read by `sharding.constrain` while tracing: as a static argument it is
# part of the cache's key.
@functools.partial(
    jax.jit,
    static_argnames=("graph", "num_tokens", "greedy", "top_k", "ends", "context"),
)
def _generate(
    state: nnx.State,
    *,
    prompts: jax.Array,
    lengths: jax.Array,
    temperature: jax.Array,
    top_p: jax.Array | None,
    key: jax.Array,
    graph: nnx.GraphDef,
    num_tokens: int,
    greedy: bool,
    top_k: int | None,
    ends: tuple[int, ...],
    context: sharding.Context | None,
) -> jax.Array:
    del context
    model = nnx.merge(graph, state)
    # Prompts: fill the caches, keep the hidden state of each row's last token.
    rows, longest = prompts.shape
    positions = jnp.broadcast_to(jnp.arange(longest), prompts.shape)
    caches = _empty_caches(model, rows, longest + num_tokens)
    hidden, caches = _forward(model, prompts, positions, caches)
    hidden = hidden[jnp.arange(rows), lengths - 1]

    def choose(hidden, step):
        logits = model.head(hidden)
        if greedy:
            return jnp.argmax(logits, axis=-1).astype(prompts.dtype)
        scores = draws.kept_logits(
            logits, temperature=temperature, top_k=top_k, top_p=top_p
        )
        return draws.draw(scores, key, step).astype(prompts.dtype)

    def advance(carry, step):
        hidden, caches, before, done = carry
        tokens = jnp.where(done, before, choose(hidden, step))
        done |= jnp.isin(tokens, jnp.asarray(ends, tokens.dtype))
        positions = (lengths + step)[:, None]
        hidden, caches = _forward(model, tokens[:, None], positions, caches)
        return (hidden[:, 0], caches, tokens, done), tokens

    # One token a step, all rows together.
    nothing = jnp.zeros((rows,), prompts.dtype), jnp.zeros((rows,), bool)
    start = (hidden, caches, *nothing)
    _, tokens = jax.lax.scan(advance, start, jnp.arange(num_tokens))
    return tokens.T


def _ids(end: int | Sequence[int] | None) -> tuple[int, ...]:
    if end is None:
        return ()
    return (end,) if isinstance(end, int) else tuple(end)


def _forward(
    model: Transformer, tokens: jax.Array, positions: jax.Array, caches: Cache
) -> tuple[jax.Array, Cache]:
    """Return hidden states `[b t d]` of `tokens` at `positions`, and the new caches."""
    x = model.embed(tokens)
    of_kinds = [
        {"rotation": model.rotation(positions, kind), "window": kind.window}
        for kind in model.attention_kinds
    ]

    def step(block: Block, x: jax.Array, inputs: Any) -> tuple[jax.Array, Cache]:
        cache, kind = inputs
        run = functools.partial(_run_block, block, positions=positions)
        branches = [functools.partial(run, **fields) for fields in of_kinds]
        return layer_attention.run_one(kind, branches, x, cache)

    x, caches = model.blocks.run(step, x, (caches, model.kinds_by_layer()))
    return model.norm(x), caches


def _run_block(
    block: Block,
    x: jax.Array,
    cache: Cache,
    *,
    rotation: Rotation | None,
    positions: jax.Array,
    window: int | None,
) -> tuple[jax.Array, Cache]:
    query, key, value = block.project(x, rotation)
    row = jnp.arange(x.shape[0])[:, None]
    # A row's padding is overwritten before any query comes late enough to see it.
    keys, values = (
        old.at[row, positions].set(new)
        for old, new in zip(cache, (key, value), strict=True)
    )
    slots = jnp.arange(keys.shape[1])
    behind = positions[..., None] - slots[None, None]
    mask = behind >= 0
    if window is not None:
        mask &= behind < window
    mixed = block.attention.attend(query, keys, values, mask)
    x, _ = block.add_mlp(block.add_attention(x, mixed))
    return x, (keys, values)


def _empty_caches(model: Transformer, rows: int, length: int) -> Cache:
    """Return zeros by layer, see `models.layers`."""
    shape = (rows, length, model.num_kv_heads, model.head_dim)
    zeros = jnp.zeros(shape, model.dtype)
    return model.blocks.repeated((zeros, zeros))
