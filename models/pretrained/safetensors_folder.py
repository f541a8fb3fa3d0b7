"""Published models in Hugging Face folders: `config.json`, `model*.safetensors`."""

import functools
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from models.pretrained import families, location
from models.pretrained.entries.settings import Settings
from models.pretrained.source import Source
from models.pretrained.tensors import fp8, fusing, mxfp4

INDEX = "model.safetensors.index.json"


def read(folder: Path, settings: Mapping[str, Any]) -> Source:
    """Open the model of a folder.

    Args:
      folder: of `config.json` and `model*.safetensors`.
      settings: entries in place of those of `config.json`.

    Raises:
      ValueError: for a file that is missing or cannot be read.
    """
    config = folder / "config.json"
    entries = Settings(config, {**json_of(config), **settings})
    fields, family, end_ids = families.read(entries)
    weights = _weight_files(folder)
    tensors: dict[str, Callable[[], np.ndarray]] = {}
    dtypes: dict[str, np.dtype] = {}
    for file in weights:
        of_file = _dtypes(file)
        dtypes |= of_file
        tensors |= {name: functools.partial(_tensor, file, name) for name in of_file}
    block = entries.take("quantization_config", {}).get("weight_block_size")
    if block:
        tensors, dtypes = fp8.dequantized(tensors, dtypes, block)
    skipped = _layers_beyond(tensors, entries, family)
    for name in skipped:
        del tensors[name], dtypes[name]
    tensors, dtypes = fusing.cut(tensors, dtypes, family.rules, fields)
    return Source(
        path=folder,
        files=(config, *weights),
        fields=fields,
        names=family.names,
        unused=("rotary_emb.inv_freq", *family.unused),
        tensors=tensors,
        dtypes=dtypes,
        end_ids=end_ids,
        settings=settings,
        skipped=skipped,
        context=entries.take(family.context, None),
    )


def _layers_beyond(
    tensors: Collection[str], entries: Settings, family: families.Family
) -> tuple[str, ...]:
    """Return the tensors of layers after the last, which predict further tokens."""
    layers = entries.take("num_hidden_layers", 0)
    counts = [entries.take(name, 0) for name in family.layers_beyond]
    beyond = range(layers, layers + max(counts, default=0))
    layer = re.compile(r"model\.layers\.(\d{1,9})\.")
    matches = {name: layer.match(name) for name in tensors}
    return tuple(
        sorted(name for name, x in matches.items() if x and int(x[1]) in beyond)
    )


def json_of(file: Path) -> dict[str, Any]:
    """Return the entries of a file.

    Raises:
      ValueError: it is missing, or holds no object.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{file.parent} has no {file.name}{_other(file)}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{file} must hold an object, got {type(entries).__name__}")
    return entries


def _other(missing: Path) -> str:
    """Name another form of model in the folder, and what to do with it."""
    for pattern, advice in _OTHER_FORMS.items():
        files = sorted(missing.parent.glob(pattern))
        if files:
            return f"; it holds {files[0].name}: {advice}"
    return ""


_OTHER_FORMS = {
    "adapter_config.json": "an adapter: starts.Adapter(path=..., start=...)",
    "*.gguf": "give that file itself",
    "pytorch_model*.bin": "save the model again, as safetensors",
    "consolidated*": "the publisher's own form; take the one with model*.safetensors",
}


def _weight_files(folder: Path) -> list[Path]:
    """Return the shards that an index names, or the one file there is."""
    if (folder / INDEX).is_file():
        shards = json_of(folder / INDEX).get("weight_map", {})
        if not isinstance(shards, dict):
            raise ValueError(f"{folder / INDEX}: weight_map must be an object")
        names = [location.beside(folder / INDEX, name) for name in shards.values()]
        files = sorted(set(names))
    else:
        files = sorted(folder.glob("model*.safetensors"))
        if len(files) > 1:
            raise ValueError(f"{folder} has {len(files)} shards and no {INDEX}")
    if not files:
        raise ValueError(f"{folder} has no model*.safetensors{_other(folder / INDEX)}")
    for file in files:
        if not file.is_file():
            raise ValueError(f"{folder} lacks {file.name}, which {INDEX} names")
    return files


def tensors_of(file: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Return what reads each tensor of a file, by name.

    Raises:
      ValueError: it is missing, damaged, or of a type that is not supported.
    """
    if not file.is_file():
        raise ValueError(f"{file.parent} has no {file.name}")
    return {name: functools.partial(_tensor, file, name) for name in _dtypes(file)}


def _dtypes(file: Path) -> dict[str, np.dtype]:
    """Return the type of each tensor, by name; only the header is read."""
    try:
        import safetensors
    except ImportError:
        raise ValueError(
            f"{file} needs the library safetensors: pip install safetensors"
        ) from None
    try:
        with safetensors.safe_open(file, framework="numpy") as file_tensors:
            names = list(file_tensors.keys())
            kinds = {name: file_tensors.get_slice(name).get_dtype() for name in names}
    except OSError as error:  # safetensors 0.8 writes files for their owner alone
        raise ValueError(f"cannot read {file}: {error}") from error
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is not a safetensors file: {error}") from error
    for name, kind in kinds.items():
        if kind not in _KINDS and not (kind == "U8" and name.endswith(_BYTES)):
            raise ValueError(
                f"{file}: {name!r} is stored as {kind}; supported: {sorted(_KINDS)}"
            )
    return {name: np.dtype(_KINDS.get(kind, np.uint8)) for name, kind in kinds.items()}


_KINDS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    **fp8.KINDS,
}

_BYTES = (mxfp4.BLOCKS, mxfp4.SCALES)


def _tensor(file: Path, name: str) -> np.ndarray:
    import safetensors

    with safetensors.safe_open(file, framework="numpy") as file_tensors:
        kind = file_tensors.get_slice(name).get_dtype()
        if kind not in fp8.KINDS:
            return file_tensors.get_tensor(name)
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        entry = json.loads(stream.read(size))[name]
        start, end = entry["data_offsets"]
        stream.seek(8 + size + start)
        content = stream.read(end - start)
    return np.frombuffer(content, fp8.KINDS[kind]).reshape(entry["shape"])
