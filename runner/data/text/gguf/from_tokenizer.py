"""`tokenizer.ggml.` entries of a tokenizer: `gguf_tokenizer` the other way.

What the entries cannot say is refused: ways of cutting a text into words that have no
name in `byte_level.WORDS`, and merges that do not follow from scores.
"""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from runner.data.text.gguf import byte_level, sentencepiece
from runner.errors import UserError

Entries = dict[str, Any]
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_INSTEAD = "write the model as a folder, format hf"


def entries(tokenizer: Tokenizer, *, size: int) -> Entries:
    """Return the entries, without those of the ends of a text.

    Args:
      tokenizer: of the `tokenizers` library.
      size: ids of the model; those that the tokenizer lacks are `[PAD4095]`, unused.

    Raises:
      UserError: the tokenizer does what no entry says.
    """
    definition = json.loads(tokenizer.to_str())
    model = definition["model"]
    _refuse_stripping(definition)
    if model.get("type") != "BPE":
        raise UserError(
            f"a .gguf file has no tokenizer of the kind {model.get('type')}"
        )
    if model.get("byte_fallback"):
        return _sentencepiece(tokenizer, definition, size=size)
    return {
        "model": "gpt2",
        "pre": _name_of_words(definition),
        **_tokens(tokenizer, size=size),
        "merges": [" ".join(merge) for merge in _merges(definition)],
    }


def _refuse_stripping(definition: Mapping[str, Any]) -> None:
    for token in definition["added_tokens"]:
        for flag in ("lstrip", "rstrip", "single_word"):
            if token[flag]:
                raise UserError(
                    f"token {token['content']!r} has {flag}, which a .gguf file cannot "
                    f"say; {_INSTEAD}"
                )


def _tokens(tokenizer: Tokenizer, *, size: int) -> Entries:
    added = tokenizer.get_added_tokens_decoder()
    tokens, kinds = [], []
    for index in range(size):
        token = tokenizer.id_to_token(index)
        tokens.append(f"[PAD{index}]" if token is None else token)
        if token is None:
            kinds.append(_UNUSED)
        elif index in added:
            kinds.append(_CONTROL if added[index].special else _USER_DEFINED)
        else:
            kinds.append(_NORMAL)
    return {"tokens": tokens, "token_type": kinds}


def _merges(definition: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs; older files have them as one text each."""
    merges = definition["model"]["merges"]
    pairs = (m.split(" ", 1) if isinstance(m, str) else m for m in merges)
    return [(left, right) for left, right in pairs]


def _name_of_words(definition: Mapping[str, Any]) -> str:
    """Return the name that llama.cpp has for the way of cutting a text into words."""
    normalizer = definition["normalizer"]
    # llama.cpp does not compose accents; its files of Qwen's models leave it at that.
    plain = normalizer is None or normalizer.get("type") == "NFC"
    words = _words(definition)
    whole_first = bool(definition["model"].get("ignore_merges"))
    for name, known in byte_level.WORDS.items():
        if (
            plain
            and known == words
            and whole_first == (name in byte_level.WHOLE_WORDS_FIRST)
        ):
            return name
    names = ", ".join(byte_level.WORDS)
    raise UserError(
        "the tokenizer cuts texts into words (its normalizer and pre_tokenizer) in a "
        f"way that llama.cpp has no name for; its names here: {names}; {_INSTEAD}"
    )


def _words(definition: Mapping[str, Any]) -> list[str] | None:
    """Return the patterns in order; None where a step is no pattern."""
    step = definition["pre_tokenizer"] or {}
    steps = step.get("pretokenizers", [step])
    patterns: list[str] = []
    for step in steps[:-1]:
        match step:
            case {
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": False,
            }:
                patterns.append(pattern)
            case {"type": "Digits", "individual_digits": True}:
                patterns.append(r"\p{N}")
            case _:
                return None
    match steps[-1]:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}:
            return [*patterns, *(byte_level.GPT2 if use_regex else ())]
    return None


def _sentencepiece(
    tokenizer: Tokenizer, definition: Mapping[str, Any], *, size: int
) -> Entries:
    """Return scores that give the merges again."""
    merges, unknown = _merges(definition), definition["model"].get("unk_token")
    tokens = _tokens(tokenizer, size=size)
    kinds = tokens["token_type"]
    for index, token in enumerate(tokens["tokens"]):
        if token == unknown:
            kinds[index] = _UNKNOWN
        elif len(token) == 6 and token.startswith("<0x") and kinds[index] == _NORMAL:
            kinds[index] = _BYTE
    rank: dict[str, int] = {}
    for number, (left, right) in enumerate(merges):
        rank.setdefault(left + right, number)
    # From -1 down: at 0 stand symbols of the user's own. What nothing merges into has
    # the lowest.
    lowest = float(len(merges))
    scores = [-1.0 - rank.get(token, lowest) for token in tokens["tokens"]]
    prefix = "Prepend" in json.dumps(definition["normalizer"])
    written = {
        "model": "llama",
        "pre": "default",
        **tokens,
        "scores": scores,
        "add_space_prefix": prefix,
    }
    if unknown is not None:
        written["unknown_token_id"] = tokenizer.token_to_id(unknown)
    again = json.loads(sentencepiece.build("it", written).to_str())
    same = ("normalizer", "pre_tokenizer", "decoder")
    if _merges(again) != merges or any(again[x] != definition[x] for x in same):
        raise UserError(
            "the tokenizer is not as SentencePiece makes one of scores, which is all "
            f"that a .gguf file says; {_INSTEAD}"
        )
    return written
