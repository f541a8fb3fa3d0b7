"""Autoregressive generation with a key-value cache."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, sharding
from models.decoding import draws
from models.decoding.cached import continue_rows
from models.transformer import Transformer


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

    def choose(logits: jax.Array, step: jax.Array) -> jax.Array:
        if greedy:
            return jnp.argmax(logits, axis=-1)
        scores = draws.kept_logits(
            logits, temperature=temperature, top_k=top_k, top_p=top_p
        )
        return draws.draw(scores, key, step)

    tokens, _ = continue_rows(
        nnx.merge(graph, state),
        prompts,
        lengths,
        limits=jnp.full(lengths.shape, num_tokens),
        num_tokens=num_tokens,
        slots=prompts.shape[1] + num_tokens,
        choose=choose,
        ends=ends,
    )
    return tokens


def _ids(end: int | Sequence[int] | None) -> tuple[int, ...]:
    if end is None:
        return ()
    return (end,) if isinstance(end, int) else tuple(end)
