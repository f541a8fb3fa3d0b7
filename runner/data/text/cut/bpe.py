"""A `tokenizer.json` of byte-pair encoding, cut to some of its tokens.

A text whose merges all stay is cut into the same tokens: the pair that is merged next
is the first of those that are there, and stays the first of fewer.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from runner.errors import UserError

Definition = dict[str, Any]
_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")


def cut(definition: Definition, used: frozenset[int], *, source: str) -> Definition:
    """Return the definition with the tokens that are used and those that they need.

    Bytes, added tokens and the token of the unknown stay too; the parts of each merge
    that makes a token that stays do; ids are numbered anew, in their order.

    Args:
      definition: content of a `tokenizer.json`, whose ids stand in it.
      used: ids that stay.
      source: for messages.

    Raises:
      UserError: it is no BPE of bytes, or has an entry with ids that is not known.
    """
    model = definition["model"]
    if model["type"] != "BPE" or _marks(model):
        kind = model["type"] + "".join(f" with {name}" for name in _marks(model))
        raise UserError(
            f"{source}: only a byte-level or byte-fallback BPE is cut to the tokens "
            f"that are used, not {kind}"
        )
    added = {token["content"]: token["id"] for token in definition["added_tokens"]}
    names = {index: token for token, index in (model["vocab"] | added).items()}
    merges = _pairs(model["merges"])
    stay = {names[index] for index in used if index in names} | added.keys()
    stay |= {token for token in model["vocab"] if _is_byte(token, model)}
    stay |= {model["unk_token"]} - {None}
    stay = _with_parts(stay, merges)

    # Numbers in the order of the old ids, and everything that names an id.
    old = {token: index for index, token in names.items() if token in stay}
    order = sorted(old, key=old.__getitem__)
    new = {token: number for number, token in enumerate(order)}
    return {
        **definition,
        "model": {
            **model,
            "vocab": {token: new[token] for token in order if token in model["vocab"]},
            "merges": [
                list(pair) for pair in merges if {*pair, "".join(pair)} <= new.keys()
            ],
        },
        "added_tokens": [
            {**token, "id": new[token["content"]]}
            for token in definition["added_tokens"]
        ],
        "post_processor": _renumbered(definition["post_processor"], new, source),
    }


def _marks(model: Mapping[str, Any]) -> list[str]:
    """Entries that write a part of a word otherwise than the word."""
    marks = ("continuing_subword_prefix", "end_of_word_suffix")
    return [name for name in marks if model.get(name)]


def _is_byte(token: str, model: Mapping[str, Any]) -> bool:
    return (
        bool(_BYTE.fullmatch(token)) if model.get("byte_fallback") else len(token) == 1
    )


def _pairs(merges: Sequence[Any]) -> list[tuple[str, str]]:
    """Pairs of tokens; older files have them as one text each."""
    pairs = (x.split(" ", 1) if isinstance(x, str) else x for x in merges)
    return [(left, right) for left, right in pairs]


def _with_parts(tokens: set[str], merges: Sequence[tuple[str, str]]) -> set[str]:
    """Return the tokens, and all that they are merged from."""
    parts: dict[str, set[str]] = {}
    for left, right in merges:
        parts.setdefault(left + right, set()).update((left, right))
    closed, waiting = set(tokens), list(tokens)
    while waiting:
        fresh = parts.get(waiting.pop(), set()) - closed
        closed |= fresh
        waiting.extend(fresh)
    return closed


def _renumbered(processor: Any, new: Mapping[str, int], source: str) -> Any:
    """Return a post-processor with the new ids of its tokens.

    Raises:
      UserError: it is of another kind than is known.
    """
    match processor:
        case None | {"type": "ByteLevel"}:
            return processor
        case {"type": "Sequence", "processors": steps}:
            again = [_renumbered(step, new, source) for step in steps]
            return {**processor, "processors": again}
        case {"type": "TemplateProcessing", "special_tokens": tokens}:
            again = {
                name: {**token, "ids": [new[x] for x in token["tokens"]]}
                for name, token in tokens.items()
            }
            return {**processor, "special_tokens": again}
        case {"type": "BertProcessing" | "RobertaProcessing"}:
            again = {x: [name := processor[x][0], new[name]] for x in ("sep", "cls")}
            return {**processor, **again}
    raise UserError(f"{source}: post-processor {processor['type']} cannot be cut")
