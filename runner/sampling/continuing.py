"""A text model going on with prompts, a batch at a time."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from models import sharding
from models.decoding.contrast import Contrast
from models.decoding.draws import Draws
from models.decoding.generate import generate
from runner.sampling import prompts
from runner.sampling.text_model import TextModel

_CONTRAST = Contrast()
_REFILLS = 8
"""Prompts that are handed over for each place in a batch."""


@dataclasses.dataclass(frozen=True)
class Continuation:
    """A prompt and what a model wrote after it.

    Attributes:
      prompt: The text before.
      text: The text after, special tokens left out.
      ended: Whether it came to an end within the tokens there were.
    """

    prompt: str
    text: str
    ended: bool


def continuations(
    author: TextModel,
    texts: Sequence[str],
    *,
    num_tokens: int,
    draws: Draws,
    seed: int,
    batch_size: int,
    assistant: TextModel | None = None,
    contrast: Contrast = _CONTRAST,
) -> Iterator[Continuation]:
    """Yield a continuation of each prompt, in order.

    What follows a prompt does not depend on the prompts beside it, nor on `batch_size`.

    Args:
      author: The model.
      texts: The prompts.
      num_tokens: Tokens after each prompt, at most.
      draws: Which token is next.
      seed: Of the draws, with the number of the prompt.
      batch_size: Prompts that go on at once.
      assistant: A model of the same tokens that is taken away from the author.
      contrast: How.

    Raises:
      UserError: A prompt is empty where nothing begins a text.
    """
    rows = prompts.encode(author, texts)
    for numbers, ids, lengths in prompts.batches(rows, _REFILLS * batch_size):
        # A key a prompt: beside other prompts it draws the same.
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            jax.random.key(seed), np.maximum(numbers, 0)
        )
        with sharding.use(author.mesh, author.rules):
            tokens = generate(
                author.model,
                ids,
                lengths,
                num_tokens=num_tokens,
                limits=np.where(numbers >= 0, num_tokens, 0),
                temperature=draws.temperature,
                top_k=draws.top_k,
                top_p=draws.top_p,
                key=keys,
                end=author.ends,
                at_once=batch_size,
                assistant=None if assistant is None else assistant.model,
                contrast=contrast,
            )
        for number, after in zip(numbers, np.asarray(tokens), strict=True):
            if number >= 0:
                yield _continuation(author, texts[int(number)], rows[number], after)


def _continuation(
    author: TextModel, prompt: str, before: Any, after: Any
) -> Continuation:
    """Return the text of the ids `after` others, up to the first end."""
    length = next((i for i, t in enumerate(after) if t in author.ends), len(after))
    # Decoded with what is before it: alone, it may lose the space that it begins with.
    decode = author.vocabulary.decode
    prefix, whole = decode(before), decode([*before, *after[:length]])
    shared = whole.startswith(prefix)
    return Continuation(
        prompt=prompt,
        text=whole[len(prefix) :] if shared else decode(after[:length]),
        ended=length < len(after),
    )
