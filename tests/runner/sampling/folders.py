"""A published model that speaks the tokens of its own tokenizer."""

import json

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.models.pretrained.tables import FIXTURES
from tests.runner.data.text import tiny_tokenizers


def published(path):
    """Write a model with as many outputs as a tokenizer of bytes has ids."""
    names = ("<s>", "<|endoftext|>", "<|im_end|>")
    tokenizer = tiny_tokenizers.byte_level(*names)
    tiny_tokenizers.saved(path, tiny_tokenizers.around(tokenizer, "<s> $A"))
    size = tokenizer.get_vocab_size()
    config = json.loads((FIXTURES / "llama" / "config.json").read_text())
    end = {"eos_token_id": tokenizer.token_to_id("<|im_end|>")}
    (path / "config.json").write_text(json.dumps(config | {"vocab_size": size} | end))
    arrays = load_file(FIXTURES / "llama" / "model.safetensors")
    draw = np.random.default_rng(0)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        shape = size, arrays[name].shape[1]
        arrays[name] = draw.normal(size=shape).astype(np.float32)
    save_file(arrays, path / "model.safetensors")
    return path
