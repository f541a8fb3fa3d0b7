"""Published models in `.gguf` files, the format of llama.cpp.

Quantized tensors are read as float32. Queries and keys of its `llama` models lie in the
order of interleaved rotations; they are put back into that of `rope_layout="split"`.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.pretrained import gguf_families
from models.pretrained.entries import refusals
from models.pretrained.entries.gguf_stored import Stored
from models.pretrained.entries.settings import Settings
from models.pretrained.entries.unsaid import Unsaid
from models.pretrained.gguf_reader import GGUFReader
from models.pretrained.source import Source
from models.pretrained.tensors import fusing

FREQUENCIES = "rope_freqs.weight"
LONG = ("rope_factors_short.weight", "rope_factors_long.weight")


def read(file: Path, settings: Mapping[str, Any]) -> Source:
    """Open the model of a file.

    Args:
      file: path of the file.
      settings: entries of `config.json` that the file cannot say.

    Raises:
      ValueError: for a file that is not GGUF, or of a family not supported.
    """
    reader = GGUFReader(file)
    family = reader.value("general.architecture", "")
    if not isinstance(family, str) or family not in gguf_families.FAMILIES:
        reason = refusals.reason(family, gguf_families.FAMILIES)
        raise ValueError(f"{file}: architecture {family!r} is not supported: {reason}")
    if reader.value("split.count", 1) not in (0, 1):
        raise ValueError(f"{file} is one part of several: merge them into one file")
    # Configuration.
    tensors, shapes = dict(reader.tensors()), reader.shapes()
    entries = Settings(file, reader.values(f"{family}."))
    unsaid = Unsaid(file, settings)
    rope_factors = tensors[FREQUENCIES]() if FREQUENCIES in tensors else None
    long_rope = None
    there = [name for name in LONG if name in tensors]
    if len(there) == 1:
        (other,) = set(LONG) - set(there)
        raise ValueError(f"{file} has {there[0]!r} and no {other!r}")
    if there:
        long_rope = tensors[LONG[0]](), tensors[LONG[1]]()
    stored = Stored(entries, unsaid, rope_factors, long_rope)
    fields, names = gguf_families.read(family, stored)
    if names["embedding"] not in shapes:
        raise ValueError(f"{file}: no tensor {names['embedding']!r}")
    kind = gguf_families.FAMILIES[family]
    tensors, dtypes = fusing.cut(tensors, reader.dtypes(), kind.rules, fields)
    fields["vocab_size"] = shapes[names["embedding"]][0]
    fields["tie_head"] = names["output"] not in shapes
    # Rotations: pairs of rows back into halves.
    if kind.interleaved:
        for letter, heads in [("q", "num_heads"), ("k", "num_kv_heads")]:
            for name in tensors:
                if re.fullmatch(rf"blk\.\d+\.attn_{letter}\.weight", name):
                    tensors[name] = _split_order(tensors[name], fields[heads])
    end = Settings(file, reader.values("tokenizer.ggml.")).take("eos_token_id", None)
    return Source(
        path=file,
        files=(file,),
        fields=fields,
        names=names,
        unused=(FREQUENCIES, *LONG),
        tensors=tensors,
        dtypes=dtypes,
        end_ids=() if end is None else (end,) if isinstance(end, int) else tuple(end),
        settings=settings,
        assumed=unsaid.assumed,
        context=entries.take("context_length", None),
    )


def _split_order(
    tensor: Callable[[], np.ndarray], heads: int
) -> Callable[[], np.ndarray]:
    """Return a reader that moves rows `2i, 2i + 1` of each head to `i, i + half`."""

    def read() -> np.ndarray:
        values = tensor()
        rows, dim = values.shape
        pairs = values.reshape(heads, rows // heads // 2, 2, dim)
        return pairs.swapaxes(1, 2).reshape(rows, dim)

    return read
