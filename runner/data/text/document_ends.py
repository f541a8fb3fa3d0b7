"""Tokens that begin and end a document, by what a tokenizer's files say."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.files import form

if TYPE_CHECKING:  # tokenizers wait for the first load
    from tokenizers import Tokenizer

END = "<|endoftext|>"
_USUAL_ENDS = (END, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>")


@dataclasses.dataclass(frozen=True)
class DocumentEnds:
    """Ids before and after the text of a document; empty where nothing is said."""

    begin: tuple[int, ...]
    end: tuple[int, ...]


def read(tokenizer: "Tokenizer", file: Path) -> DocumentEnds:
    """Return the ends that the files of a tokenizer name.

    The beginning is what the post-processor puts before a text; else the `bos_token` of
    `tokenizer_config.json`, if `add_bos_token` is true there (DeepSeek's says so there
    alone). The end is what the post-processor puts after a text; else the first usual
    name that there is; else the `eos_token` of `tokenizer_config.json`; else the first
    `eos_token_id` of `generation_config.json`.

    Args:
      tokenizer: As it was read; it neither pads nor truncates.
      file: It was read from. The others are looked for beside a `tokenizer.json` only.

    Raises:
      UserError: A file beside it is not a JSON object.
    """
    beside = file.name == "tokenizer.json"
    config = form.entries(file.with_name("tokenizer_config.json")) if beside else {}
    generation = (
        form.entries(file.with_name("generation_config.json")) if beside else {}
    )
    begin, end = _template(tokenizer)
    if not begin and config.get("add_bos_token") is True:
        begin = _named(tokenizer, config.get("bos_token"))
    specials = {
        token.content
        for token in tokenizer.get_added_tokens_decoder().values()
        if token.special
    }
    usual = [name for name in _USUAL_ENDS if name in specials]
    for name in (*usual, config.get("eos_token")):
        end = end or _named(tokenizer, name)
    return DocumentEnds(begin, end or _numbered(tokenizer, generation))


def stops(tokenizer: "Tokenizer", file: Path) -> tuple[int, ...]:
    """Return the ids at which the files of a tokenizer say that writing ends.

    The `eos_token_id`s of `generation_config.json`, then the `eos_token` of
    `tokenizer_config.json`; as `read`, of files beside a `tokenizer.json` only.

    Raises:
      UserError: A file beside it is not a JSON object.
    """
    if file.name != "tokenizer.json":
        return ()
    config = form.entries(file.with_name("tokenizer_config.json"))
    generation = form.entries(file.with_name("generation_config.json"))
    ids = (
        *_numbers(tokenizer, generation),
        *_named(tokenizer, config.get("eos_token")),
    )
    return tuple(dict.fromkeys(ids))


def _template(tokenizer: "Tokenizer") -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that the post-processor puts before and after a text."""
    encoding = tokenizer.encode("a", add_special_tokens=True)
    mask = encoding.special_tokens_mask
    if 0 not in mask:  # "a" is no token, so that before and after cannot be told
        return (), ()
    before = mask.index(0)
    after = len(mask) - mask[::-1].index(0)
    return tuple(encoding.ids[:before]), tuple(encoding.ids[after:])


def _named(tokenizer: "Tokenizer", token: Any) -> tuple[int, ...]:
    """Return the id of a token as a config names it: a string, or with `content`."""
    name = token.get("content") if isinstance(token, dict) else token
    index = tokenizer.token_to_id(name) if isinstance(name, str) else None
    return () if index is None else (index,)


def _numbered(tokenizer: "Tokenizer", generation: dict[str, Any]) -> tuple[int, ...]:
    ids = generation.get("eos_token_id")
    first = ids[0] if isinstance(ids, list) and ids else ids
    return _numbers(tokenizer, {"eos_token_id": first})


def _numbers(tokenizer: "Tokenizer", generation: dict[str, Any]) -> tuple[int, ...]:
    """Return the ends of a generation config that are ids of the tokenizer."""
    ids = generation.get("eos_token_id")
    return tuple(
        index
        for index in (ids if isinstance(ids, list) else [ids])
        if type(index) is int
        and index >= 0
        and tokenizer.id_to_token(index) is not None
    )
