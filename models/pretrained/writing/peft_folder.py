"""Adapters as a folder that peft reads, beside the model that they are for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.adapters import low_rank
from models.moe import MoE
from models.pretrained import families, forms
from models.pretrained.peft_adapter import CONFIG, PREFIX, WEIGHTS
from models.pretrained.tensors import fusing
from models.pretrained.writing import safetensors_file
from models.pretrained.writing.choice import Choice
from models.pretrained.writing.tensors import Tensor


def tensors(choice: Choice, adapters: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors of adapters under peft's names.

    `lora_A` is `[rank inputs]`, `lora_B` `[outputs rank]`. What the family takes up of
    the model's settings changes outputs alone, and is in `lora_B`.

    Args:
      choice: of the family that the model is written as.
      adapters: their parameters by path, one a layer:
        `blocks/3/attention/adapters/query/a`.

    Raises:
      ValueError: a kernel that has one is no linear layer in transformers.
    """
    family = families.FAMILIES[choice.family]
    names = family.names
    written = []
    for path, array in adapters.items():
        owner, end = path.split(f"/{low_rank.NAME}/")
        name, factor = end.split("/")
        role, layer = forms.role(f"{owner}/{name}")
        if not is_linear(choice.family, role):
            raise ValueError(
                f"peft has no adapter for {owner}/{name}: transformers has no linear "
                "layer for it alone; without format=peft it is merged"
            )
        module = names[role].format(layer=layer).removesuffix(".weight")
        tensor = f"{PREFIX}{module}.lora_{factor.upper()}.weight"
        changes = choice.changes.get(role, ()) if factor == "b" else ()

        def read(array: Any = array, changes: Any = changes, factor: str = factor):
            values = np.asarray(array)
            for change in changes:
                values = change(values.astype(np.float32))
            return _flat(values, factor).T

        shape = _flat(np.empty(array.shape, np.bool_), factor).T.shape
        written.append(Tensor(tensor, role, shape, read))
    return written


def is_linear(family: str, role: str) -> bool:
    """Return whether transformers has a linear layer for a kernel alone.

    Of DeepSeek-V3's shared experts it has, and peft 0.21.2 makes adapters of the routed
    experts out of theirs.

    Args:
      family: a key of `families.FAMILIES`.
      role: of the kernel, `attention/query`.
    """
    of = families.FAMILIES[family]
    routed = of.mlp is MoE and role in _OF_EXPERTS
    misread = family == "deepseek_v3" and role.startswith("mlp/shared/")
    name = of.names.get(role)
    alone = name is not None and not fusing.is_part(name, of.rules)
    return alone and not routed and not misread


_OF_EXPERTS = ("mlp/router", "mlp/gate", "mlp/up", "mlp/down")


def write(
    folder: Path,
    written: list[Tensor],
    *,
    dtype: str,
    rank: int,
    alpha: float,
    base: str,
    num_layers: int,
) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`.

    Args:
      folder: is there, and empty.
      written: as `tensors` returns them.
      dtype: of all tensors, a key of `rounding.DTYPES`.
      rank: of the adapters.
      alpha: of their scale, `alpha / rank`.
      base: path of the model that they are for; "" where it is not known.
      num_layers: of that model.

    Raises:
      ValueError: a value is not finite in `dtype`.
      OSError: the folder cannot be written.
    """
    modules = [
        tensor.name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        for tensor in written
        if tensor.name.endswith(".lora_A.weight")
    ]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "target_modules": _targets(modules, num_layers),
    }
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    safetensors_file.write(folder / WEIGHTS, written, dtype=dtype)


def _targets(modules: list[str], num_layers: int) -> list[str]:
    """Return last names, `q_proj`, where all layers have each; else whole ones."""
    last = [module.rsplit(".", 1)[1] for module in modules]
    if all(last.count(name) == num_layers for name in last):
        return sorted(set(last))
    return modules


def _flat(factor: np.ndarray, which: str) -> np.ndarray:
    """Return `[inputs rank]` of `a`, `[rank outputs]` of `b`."""
    if which == "a":
        return factor.reshape(-1, factor.shape[-1])
    return factor.reshape(factor.shape[0], -1)
