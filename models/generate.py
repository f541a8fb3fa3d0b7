"""Continue prompts with a transformer, a key-value cache in place of recomputation."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from models import sharding
from models.transformer import Block, Transformer

Cache = tuple[jax.Array, jax.Array]


def generate(
    model: Transformer,
    prompts: jax.typing.ArrayLike,
    lengths: jax.typing.ArrayLike | None = None,
    *,
    num_tokens: int,
    temperature: float = 0.0,
    key: jax.Array | None = None,
    end: int | None = None,
) -> jax.Array:
    """The `num_tokens` tokens after each prompt, `[b num_tokens]`.

    prompts: `[b p]`, row i padded on the right beyond `lengths[i]`, at least 1; None
        is no padding.
    temperature: 0 takes the most probable token; above, tokens are drawn from
        `softmax(logits / temperature)` with `key`.
    end: a row that has produced this token repeats it.

    Raises: ValueError for a negative temperature, or a positive one without a key.
    """
    if num_tokens < 1:
        raise ValueError(f"num_tokens must be at least 1, got {num_tokens}")
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    if temperature > 0 and key is None:
        raise ValueError(f"temperature {temperature} needs a key")
    prompts = jnp.asarray(prompts)
    rows, longest = prompts.shape
    lengths = jnp.full((rows,), longest) if lengths is None else jnp.asarray(lengths)
    if prompts.shape[:1] != lengths.shape:
        raise ValueError(
            f"lengths must be one a prompt, got {lengths.shape} for {prompts.shape}"
        )
    graph, state = nnx.split(model)
    key = jax.random.key(0) if key is None else key
    greedy, context = temperature == 0, sharding.current()
    static = (graph, num_tokens, greedy, end, context)
    return _generate(*static, state, prompts, lengths, jnp.float32(temperature), key)


# The sharding context is among the static arguments because what is traced depends on
# it.
@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _generate(
    graph, num_tokens, greedy, end, context, state, prompts, lengths, temperature, key
):
    del context
    model = nnx.merge(graph, state)
    rows, longest = prompts.shape
    positions = jnp.broadcast_to(jnp.arange(longest), prompts.shape)
    caches = _empty(model, rows, longest + num_tokens)
    hidden, caches = _forward(model, prompts, positions, caches)
    hidden = hidden[jnp.arange(rows), lengths - 1]

    def choose(hidden, step):
        logits = model.head(hidden)
        if greedy:
            return jnp.argmax(logits, axis=-1).astype(prompts.dtype)
        draw = jax.random.categorical(
            jax.random.fold_in(key, step), logits / temperature
        )
        return draw.astype(prompts.dtype)

    def advance(carry, step):
        hidden, caches, done = carry
        tokens = choose(hidden, step)
        if end is not None:
            tokens = jnp.where(done, jnp.asarray(end, tokens.dtype), tokens)
            done = done | (tokens == end)
        positions = (lengths + step)[:, None]
        hidden, caches = _forward(model, tokens[:, None], positions, caches)
        return (hidden[:, 0], caches, done), tokens

    start = (hidden, caches, jnp.zeros((rows,), bool))
    _, tokens = jax.lax.scan(advance, start, jnp.arange(num_tokens))
    return tokens.T


def _forward(
    model: Transformer, tokens: jax.Array, positions: jax.Array, caches: Cache
) -> tuple[jax.Array, Cache]:
    """Hidden states `[b t d]` of tokens at these positions of their rows."""
    x = model.embed(tokens)
    rotation = model.rotation(positions)

    def step(block: Block, x: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        return _block(block, x, rotation, positions, cache, model.attention_window)

    x, caches = model.blocks.run(step, x, caches)
    return model.norm(x), caches


def _block(
    block: Block,
    x: jax.Array,
    rotation: tuple[jax.Array, jax.Array],
    positions: jax.Array,
    cache: Cache,
    window: int | None,
) -> tuple[jax.Array, Cache]:
    attention = block.attention
    query, key, value = attention.project(block.attention_norm(x), rotation)
    row = jnp.arange(x.shape[0])[:, None]
    # A row's padding is overwritten before any query comes late enough to see it.
    keys, values = (
        held.at[row, positions].set(new)
        for held, new in zip(cache, (key, value), strict=True)
    )
    slots = jnp.arange(keys.shape[1])
    behind = positions[..., None] - slots[None, None]
    seen = behind >= 0
    if window is not None:
        seen &= behind < window
    x = x + attention.merge(attention.attend(query, keys, values, seen))
    y, _ = block.mlp(block.mlp_norm(x))
    return x + y, (keys, values)


def _empty(model: Transformer, rows: int, length: int) -> Cache:
    """A cache by layer, see `models.layers`."""
    shape = (rows, length, model.num_kv_heads, model.head_dim)
    zeros = jnp.zeros(shape, model.dtype)
    return model.blocks.repeated((zeros, zeros))
