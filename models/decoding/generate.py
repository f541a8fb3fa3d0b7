"""Autoregressive generation with a key-value cache."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer

from models import checks, sharding
from models.decoding import draws
from models.decoding.continuing import Chosen, continue_rows
from models.decoding.contrast import Contrast
from models.transformer import Transformer

_CONTRAST = Contrast()


def generate(
    model: Transformer,
    prompts: jax.typing.ArrayLike,
    lengths: jax.typing.ArrayLike | None = None,
    *,
    num_tokens: int,
    limits: jax.typing.ArrayLike | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    key: jax.Array | None = None,
    end: int | Sequence[int] | None = None,
    at_once: int | None = None,
    assistant: Transformer | None = None,
    contrast: Contrast = _CONTRAST,
) -> jax.Array:
    """Return the `num_tokens` tokens after each prompt, `[b num_tokens]`.

    What a row gets depends on the model, its prompt and its key, not on other rows.

    Args:
      model: any `Transformer`.
      prompts: `[b p]`, row i padded on the right beyond `lengths[i]`.
      lengths: `[b]`, at least 1; None is no padding.
      num_tokens: how many tokens follow each prompt.
      limits: `[b]`, after how many a row repeats its last token; 0 is a row that gets
        none, but zeros. None is `num_tokens`.
      temperature: 0 takes the most probable token; above, tokens are drawn with
        `key`, see `models.decoding.draws.Draws`.
      top_k: as there.
      top_p: as there.
      key: for draws: one a row; or one, from which each row has one by its number.
      end: a row that has produced this token, or one of these, repeats it.
      at_once: rows that go on at a time; where one has ended, the next begins. None is
        all of them, until the last has ended.
      assistant: a model of the same tokens that reads the rows too, and whose ids the
        prompts must be; tokens that only one of both has are not drawn. None is none.
      contrast: what the logits of both become.

    Raises:
      ValueError: for a number or a token out of range, arrays that are not of these
        shapes, or a positive temperature without a key.
    """
    checks.positive(num_tokens=num_tokens, at_once=at_once)
    draws.Draws(temperature=temperature, top_k=top_k, top_p=top_p)
    if temperature > 0 and key is None:
        raise ValueError(f"temperature {temperature} needs a key")
    if np.ndim(prompts) != 2 or 0 in np.shape(prompts):
        raise ValueError(
            f"prompts must be [b p], at least one of each, got {np.shape(prompts)}"
        )

    # Prompts of one length need no padding.
    prompts = jnp.asarray(prompts)
    rows, longest = prompts.shape
    lengths = jnp.full((rows,), longest) if lengths is None else jnp.asarray(lengths)
    limits = jnp.full((rows,), num_tokens) if limits is None else jnp.asarray(limits)
    for name, numbers in (("lengths", lengths), ("limits", limits)):
        if prompts.shape[:1] != numbers.shape:
            raise ValueError(
                f"{name} must be one a prompt, got {numbers.shape} for {prompts.shape}"
            )
    for reader in (model, assistant):
        if reader is not None:
            size = reader.num_outputs
            who = "prompts" if reader is model else "prompts for the assistant"
            _require_tokens(prompts, lengths, limits, vocab_size=size, who=who)

    keys = jax.random.key(0) if key is None else key
    if keys.ndim == 0:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(keys, np.arange(rows))
    if keys.shape != (rows,):
        raise ValueError(f"key must be one, or one a prompt, got {keys.shape}")

    # Numbers are arrays even where they are not used: a change of them does not compile
    # anew.
    split = [nnx.split(x) for x in (model, assistant) if x is not None]
    return _generate(
        [state for _, state in split],
        prompts=prompts,
        lengths=lengths,
        limits=limits,
        temperature=jnp.float32(temperature),
        top_p=None if top_p is None else jnp.float32(top_p),
        keys=keys,
        graphs=tuple(graph for graph, _ in split),
        contrast=contrast,
        num_tokens=num_tokens,
        greedy=temperature == 0,
        top_k=top_k,
        ends=_ids(end),
        at_once=at_once,
        context=sharding.current(),
    )


# `context` is read by `sharding.constrain` while tracing: as a static argument it is
# part of the cache's key.
@functools.partial(
    jax.jit,
    static_argnames=(
        *("graphs", "contrast", "num_tokens", "greedy", "top_k", "ends", "at_once"),
        "context",
    ),
)
def _generate(
    states: Sequence[nnx.State],
    *,
    prompts: jax.Array,
    lengths: jax.Array,
    limits: jax.Array,
    temperature: jax.Array,
    top_p: jax.Array | None,
    keys: jax.Array,
    graphs: tuple[nnx.GraphDef, ...],
    contrast: Contrast,
    num_tokens: int,
    greedy: bool,
    top_k: int | None,
    ends: tuple[int, ...],
    at_once: int | None,
    context: sharding.Context | None,
) -> jax.Array:
    del context

    def choose(
        logits: Sequence[jax.Array], rows: jax.Array, steps: jax.Array
    ) -> Chosen:
        joint = contrast(*logits) if len(logits) > 1 else logits[0]
        if greedy:
            return Chosen(draws.best(joint))
        scores = draws.kept_logits(
            joint, temperature=temperature, top_k=top_k, top_p=top_p
        )
        return Chosen(draws.draw(scores, keys[rows], steps))

    return continue_rows(
        [nnx.merge(graph, state) for graph, state in zip(graphs, states, strict=True)],
        prompts,
        lengths,
        limits=limits,
        num_tokens=num_tokens,
        slots=prompts.shape[1] + num_tokens,
        choose=choose,
        ends=ends,
        at_once=at_once,
    ).tokens


def _require_tokens(
    prompts: jax.Array,
    lengths: jax.Array,
    limits: jax.Array,
    *,
    vocab_size: int,
    who: str,
) -> None:
    """Refuse prompts that are no tokens of the model's, where values are known.

    Raises:
      ValueError: with the row.
    """
    if any(isinstance(x, Tracer) for x in (prompts, lengths, limits)):
        return
    ids, counts = np.asarray(prompts), np.asarray(lengths)
    goes_on, longest = np.asarray(limits) > 0, ids.shape[1]
    for row in np.flatnonzero(goes_on & ((counts < 1) | (counts > longest)))[:1]:
        raise ValueError(
            f"lengths must be 1 to {longest}, got {counts[row]} of prompt {row}"
        )
    inside = goes_on[:, None] & (np.arange(longest) < counts[:, None])
    for row, place in np.argwhere(inside & ((ids < 0) | (ids >= vocab_size)))[:1]:
        raise ValueError(
            f"{who} must be ids below {vocab_size}, got {ids[row, place]} at place "
            f"{place} of prompt {row}"
        )


def _ids(end: int | Sequence[int] | None) -> tuple[int, ...]:
    return () if end is None else tuple(np.atleast_1d(end).tolist())
