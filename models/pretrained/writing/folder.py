"""Models as folders in the layout of Hugging Face, as transformers 5 writes them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.pretrained import families
from models.pretrained.safetensors_folder import INDEX
from models.pretrained.writing import joining, safetensors_file
from models.pretrained.writing.choice import Choice
from models.pretrained.writing.tensors import Tensor, tensors

SHARD_SIZE = 5_000_000_000
"""Bytes of the largest file of weights, but for a tensor that is larger itself."""


def write(
    folder: Path,
    choice: Choice,
    arrays: Mapping[str, Any],
    *,
    dtype: str,
    context: int,
    begin: int | None = None,
    end: int | None = None,
    stops: Sequence[int] = (),
    shard_size: int = SHARD_SIZE,
) -> None:
    """Write `config.json`, `generation_config.json` and the weights.

    A head of its own is written even where it equals the embedding, beside
    `tie_word_embeddings` false; a tied one is left out.

    Args:
      folder: is there, and empty.
      choice: of the family.
      arrays: of the model by path, as in a train state.
      dtype: of all tensors, a key of `rounding.DTYPES`.
      context: positions of the longest text.
      begin: id that begins a text.
      end: id that ends one.
      stops: further ids at which generation ends.
      shard_size: bytes of the largest file.

    Raises:
      ValueError: a value is not finite in `dtype`.
      OSError: the folder cannot be written.
    """
    ids = {"bos_token_id": begin, "eos_token_id": end}
    family = families.FAMILIES[choice.family]
    config = {
        family.context: context,  # but where positions are learned: then as many
        **families.write(choice.family, choice.fields),
        "dtype": dtype,
        # None too: absent, they are those of the family's first model, and SmolLM3's
        # padding lies beyond a smaller vocabulary.
        **ids,
        "pad_token_id": None,
    }
    _write_json(folder / "config.json", config)
    generation: dict[str, Any] = {n: x for n, x in ids.items() if x is not None}
    if set(stops) - {end}:
        ends = dict.fromkeys(x for x in (end, *stops) if x is not None)
        generation["eos_token_id"] = list(ends)
    _write_json(
        folder / "generation_config.json",
        # With ends of its own it is none that follows from the model's config.
        {"_from_model_config": not set(stops) - {end}, **generation},
    )
    separate = tensors(arrays, family.names, choice.changes)
    all_tensors = joining.join(separate, family.rules, choice.fields)
    shards = list(_shards(all_tensors, dtype, shard_size))
    if len(shards) == 1:
        file = folder / "model.safetensors"
        return safetensors_file.write(file, all_tensors, dtype=dtype, wide=family.wide)
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = folder / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        safetensors_file.write(file, shard, dtype=dtype, wide=family.wide)
        weight_map |= {tensor.name: file.name for tensor in shard}
    size = sum(safetensors_file.size(tensor, dtype) for tensor in all_tensors)
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    _write_json(folder / INDEX, index)


def _shards(
    all_tensors: Sequence[Tensor], dtype: str, most: int
) -> Iterator[list[Tensor]]:
    """Yield tensors file by file, in order, at most so many bytes in each."""
    shard: list[Tensor] = []
    filled = 0
    for tensor in all_tensors:
        size = safetensors_file.size(tensor, dtype)
        if shard and filled + size > most:
            yield shard
            shard, filled = [], 0
        shard.append(tensor)
        filled += size
    yield shard


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
