"""Small tokenizers that surround a text as published ones do."""

import json
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

MARK = "\u2581"


def byte_level(*special: str) -> Tokenizer:
    """As GPT-2: every byte, one merge, and special tokens after them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*alphabet, "th"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("t", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def byte_fallback(*special: str, prefix: bool = False) -> Tokenizer:
    """As Llama-2 (with its prefix) and Gemma: marks for spaces; runs of them added."""
    characters = [*map(chr, range(33, 127)), *"\n\u00e9\u0301\u00e0\u0300", MARK]
    tokens = [*special, *(f"<0x{i:02X}>" for i in range(256)), *characters]
    tokens += [MARK * 2, MARK * 4]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[(MARK, MARK), (MARK * 2, MARK * 2)],
        byte_fallback=True,
        unk_token=special[0],
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    steps = [normalizers.Prepend(MARK)] if prefix else []
    tokenizer.normalizer = normalizers.Sequence(
        [*steps, normalizers.Replace(" ", MARK)]
    )
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [
            *(decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()),
            *strip,
        ]
    )
    tokenizer.add_special_tokens(list(special))
    tokenizer.add_tokens([AddedToken(MARK * n, normalized=False) for n in (2, 4)])
    return tokenizer


def around(tokenizer: Tokenizer, template: str) -> Tokenizer:
    """Put special tokens around a text: `<s> $A </s>`."""
    names = [part for part in template.split() if part != "$A"]
    ids = [(name, tokenizer.token_to_id(name)) for name in names]
    step = processors.TemplateProcessing(single=template, special_tokens=ids)
    before = [tokenizer.post_processor] if tokenizer.post_processor else []
    tokenizer.post_processor = processors.Sequence([*before, step])
    return tokenizer


def saved(folder: Path, tokenizer: Tokenizer, **config: Any) -> str:
    """Write `tokenizer.json` and, with entries, `tokenizer_config.json`."""
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return str(folder / "tokenizer.json")
