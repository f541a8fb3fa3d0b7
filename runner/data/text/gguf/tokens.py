"""Tokens of `.gguf` files, without those that only fill a vocabulary up."""

from collections.abc import Mapping
from typing import Any

_UNUSED = 5  # of `tokenizer.ggml.token_type`


def vocab(entries: Mapping[str, Any]) -> dict[str, int]:
    """Return ids by token; padding is left out.

    llama.cpp's converter fills a vocabulary up to the rows of the embedding with
    `[PAD151669]`, of the type for unused tokens; older versions gave them that of
    a user's own.

    Args:
      entries: `tokenizer.ggml.` of a file.
    """
    tokens = entries["tokens"]
    kinds = entries.get("token_type") or [None] * len(tokens)
    return {
        token: index
        for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind != _UNUSED and token != f"[PAD{index}]"
    }
