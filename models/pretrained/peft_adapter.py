"""Adapters that peft saved: `adapter_config.json`, `adapter_model.safetensors`."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.pretrained import safetensors_folder
from models.pretrained.tensors import names

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Of the names of all tensors."""

Read = Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pair:
    """An adapter of one matrix `[outputs inputs]`, to which it adds `scale · B A`.

    Attributes:
      a: reads `[rank inputs]`.
      b: reads `[outputs rank]`.
      rank: of both.
      scale: of the product.
    """

    a: Read
    b: Read
    rank: int
    scale: float


@dataclasses.dataclass(frozen=True)
class PeftAdapter:
    """An adapter of peft.

    Attributes:
      files: all that determine it.
      pairs: by the path of a kernel, `blocks/3/attention/query`; of the `embedding`,
        whose matrix is `[dim vocabulary]`, and of the `output`.
      copies: of matrices of its base, by path.
    """

    files: tuple[Path, ...]
    pairs: Mapping[str, Pair]
    copies: Mapping[str, Read]


def read(folder: Path) -> PeftAdapter:
    """Open the adapter of a folder.

    Raises:
      ValueError: a file is missing, or an entry or a tensor is not supported.
    """
    config, file = folder / CONFIG, folder / WEIGHTS
    scale = _scale(config, safetensors_folder.json_of(config))
    stored = safetensors_folder.tensors_of(file)
    pairs, copies = {}, {}
    for name in stored:
        match = _TENSOR.fullmatch(name)
        path = _path(match["module"]) if match else None
        if match is None or path is None:
            raise ValueError(f"{file}: no place for the tensor {name!r}")
        if match["kind"] == "base_layer.weight":
            copies[path] = stored[name]
        elif match["kind"] in _OTHER:
            other = f"{PREFIX}{match['module']}.{_OTHER[match['kind']]}"
            if other not in stored:
                raise ValueError(f"{file}: {name!r} has no {other!r}")
            if "A" in match["kind"]:
                rank = len(stored[name]())
                pairs[path] = Pair(stored[name], stored[other], rank, scale(rank))
    return PeftAdapter((config, file), pairs, copies)


_TENSOR = re.compile(
    re.escape(PREFIX)
    + r"(?P<module>.+)\.(?P<kind>lora_[AB]\.weight|lora_embedding_[AB]|"
    r"base_layer\.weight)"
)
_OTHER = {
    "lora_A.weight": "lora_B.weight",
    "lora_B.weight": "lora_A.weight",
    "lora_embedding_A": "lora_embedding_B",
    "lora_embedding_B": "lora_embedding_A",
}
# Linear layers have the same names in all families.
_ROLES = {name.removesuffix(".weight"): role for role, name in names.DENSE.items()}


def _path(module: str) -> str | None:
    """Return our path of a module, `model.layers.3.mlp.up_proj`; None without one."""
    role = _ROLES.get(module)
    if role is not None:
        return role
    layer = re.search(r"\.(\d+)\.", module)
    if layer is None:
        return None
    role = _ROLES.get(module.replace(layer[0], ".{layer}.", 1))
    return None if role is None else f"blocks/{layer[1]}/{role}"


# What does not change what an adapter adds, or is in its tensors.
_HARMLESS = frozenset(
    {
        *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path"),
        *("revision", "inference_mode", "target_modules", "exclude_modules"),
        *("lora_dropout", "layers_to_transform", "layers_pattern", "rank_pattern"),
        *("megatron_core", "qalora_group_size", "runtime_config"),
        "ensure_weight_tying",
    }
)
# Begin beside the base as it is; others (`pissa`, `olora`, ...) change it.
_INITIAL = (True, False, "gaussian", "eva", "orthogonal")


def _scale(config: Path, entries: Mapping[str, Any]) -> Callable[[int], float]:
    """Return the scale of an adapter by its rank.

    Raises:
      ValueError: an entry says that it is more than `W + scale · B A`.
    """
    demands = {
        "peft_type": ("LORA",),
        "bias": ("none",),
        "init_lora_weights": _INITIAL,
        "use_rslora": (True, False),
    }
    for name, value in entries.items():
        supported = demands.get(name)
        if supported is not None and value is not None and value not in supported:
            raise ValueError(
                f"{config}: {name} {value!r} is not supported; it must be one of "
                f"{list(supported)}"
            )
        known = supported is not None or name in _HARMLESS
        if not known and name != "lora_alpha" and value not in (None, False, {}, []):
            if name == "r":
                continue
            raise ValueError(
                f"{config}: {name} {value!r} is not supported: it may change the result"
            )
    alpha = entries.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or alpha <= 0:
        raise ValueError(f"{config}: lora_alpha must be positive, got {alpha!r}")
    if entries.get("use_rslora"):
        return lambda rank: alpha / math.sqrt(rank)
    return lambda rank: alpha / rank
