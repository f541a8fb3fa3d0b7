"""Models as `.gguf` files, as llama.cpp's converter writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.pretrained import gguf_families
from models.pretrained.entries import gguf_rope
from models.pretrained.gguf_file import FREQUENCIES, LONG
from models.pretrained.writing import blocks, joining
from models.pretrained.writing.choice import Choice
from models.pretrained.writing.rounding import DTYPES, rounded
from models.pretrained.writing.tensors import Tensor, tensors

_FILE_TYPES = {"float32": 0, "float16": 1, "bfloat16": 32, "Q4_0": 2, "Q8_0": 7}
"""`general.file_type`."""
_KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def write(
    file: Path,
    choice: Choice,
    arrays: Mapping[str, Any],
    *,
    dtype: str,
    context: int,
    name: str,
    tokenizer: Mapping[str, Any],
    quantized: bool = False,
) -> None:
    """Write one file.

    Vectors and the router of experts are float32 whatever `dtype` is: llama.cpp
    computes with them so.

    Args:
      file: is written anew.
      choice: of the architecture.
      arrays: of the model by path, as in a train state.
      dtype: of all matrices, a key of `rounding.DTYPES`.
      context: positions of the longest text.
      name: of the model, for people; left out where llama.cpp would act on it.
      tokenizer: entries by the rest of their names after `tokenizer.`.
      quantized: whether matrices that lie on the grid of Q4_0 or Q8_0 are stored so.

    Raises:
      ValueError: a value is not finite in `dtype`, `gguf` is not installed, or none
        lies on a grid.
      OSError: the file cannot be written.
    """
    try:
        import gguf
    except ImportError:
        raise ValueError(f"{file} needs the library gguf: pip install gguf") from None
    fields, family = choice.fields, gguf_families.FAMILIES[choice.family]
    writer = gguf.GGUFWriter(file, choice.family)
    if _is_only_a_name(name, tokenizer):
        writer.add_name(name)
    entries = {
        "context_length": context,  # but where positions are learned: then as many
        **gguf_families.write(choice.family, fields),
        "vocab_size": fields["vocab_size"],
    }
    for key, value in entries.items():
        _add(writer, f"{choice.family}.{key}", value)
    for key, value in tokenizer.items():
        _add(writer, f"tokenizer.{key}", value)
    # Their headers, then their content, one after another.
    content = [
        _interleaved(tensor, fields) if family.interleaved else tensor
        for tensor in joining.join(
            tensors(arrays, family.names[fields["mlp"]], choice.changes),
            family.rules,
            fields,
        )
    ]
    content += _rotations(fields)
    stored = {x.name: _stored(x, dtype, quantized=quantized) for x in content}
    grids = stored.values() & blocks.SIZES.keys()
    if quantized and not grids:
        raise ValueError(
            "no kernel is on the grid of Q8_0 or Q4_0, which models.Quantized has with "
            "weights='int8' or 'int4', block=32, scale_dtype='float16'"
        )
    writer.add_file_type(_FILE_TYPES[max(grids, default=dtype)])
    for tensor in content:
        kind = stored[tensor.name]
        writer.add_tensor_info(
            tensor.name,
            tensor.shape,
            np.dtype(np.float32),
            _bytes(tensor, kind),
            raw_dtype=gguf.GGMLQuantizationType[_KINDS.get(kind, kind)],
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in content:
            kind = stored[tensor.name]
            writer.write_tensor_data(
                blocks.packed(tensor, kind)
                if kind in blocks.SIZES
                else rounded(tensor, kind)
            )
        writer.flush()
    finally:
        writer.close()


def _rotations(fields: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors of frequencies that no entry says."""
    arrays: dict[str, np.ndarray] = {}
    factors = gguf_rope.factors(fields)
    if factors is not None:
        arrays[FREQUENCIES] = factors
    long = gguf_rope.long_factors(fields)
    if long is not None:
        arrays |= zip(LONG, long, strict=True)
    return [
        Tensor(name, "", array.shape, lambda array=array: array)
        for name, array in arrays.items()
    ]


def _is_only_a_name(name: str, tokenizer: Mapping[str, Any]) -> bool:
    """Return false for a name by which llama.cpp looks for tokens that are not there.

    Source: `llama-vocab.cpp` (llama-cpp-python 0.3.36), "set attributes by model name".
    """
    tokens = set(tokenizer.get("ggml.tokens", ()))
    of_phi = any(part in name.lower() for part in ("phi-3", "phi3"))
    return not of_phi or tokens >= _OF_PHI_3


_OF_PHI_3 = {"<unk>", "<s>", "</s>", "<|endoftext|>"}


# llama.cpp adds biases of experts in float32 alone.
_WIDE = ("mlp/router", "mlp/gate_bias", "mlp/up_bias", "mlp/down_bias")


def _stored(tensor: Tensor, dtype: str, *, quantized: bool) -> str:
    if len(tensor.shape) == 1 or tensor.role in _WIDE:
        return "float32"
    return (quantized and blocks.kind_of(tensor)) or dtype


def _bytes(tensor: Tensor, kind: str) -> int:
    size = int(np.prod(tensor.shape))
    if kind in blocks.SIZES:
        return size // blocks.BLOCK * blocks.SIZES[kind]
    return size * DTYPES[kind].itemsize


def _add(writer: Any, key: str, value: Any) -> None:
    """Add an entry of the type that llama.cpp reads."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _interleaved(tensor: Tensor, fields: Mapping[str, Any]) -> Tensor:
    """Move rows `i, i + half` of each head to `2i, 2i + 1`, as `gguf_file` has them."""
    heads = {"attention/query": "num_heads", "attention/key": "num_kv_heads"}
    if tensor.role not in heads:
        return tensor
    count = fields[heads[tensor.role]]

    def read() -> np.ndarray:
        values = tensor.read()
        rows, dim = values.shape
        halves = values.reshape(count, 2, rows // count // 2, dim)
        return halves.swapaxes(1, 2).reshape(rows, dim)

    return Tensor(tensor.name, tensor.role, tensor.shape, read)
