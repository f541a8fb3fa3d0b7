"""Every family with adapters, as folders of the model, of the adapters and of both.

    python tests/parity/export_adapters.py FOLDER

Writes FOLDER/NAME/base, FOLDER/NAME/adapters, FOLDER/NAME/merged and
FOLDER/NAME/expected.safetensors; `check_adapters.py` reads them.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from models import LoRA, pretrained
from models.adapters import low_rank
from models.pretrained import forms, writing
from models.pretrained.writing import peft_folder
from runner.checkpoint import tree_paths
from runner.weights.adapters import in_kernels
from runner.weights.tensors import StoredTensor
from tests.models.pretrained import tables
from tests.parity.export import OURS, drawn

RANK, ALPHA = 2, 3.0
ROLES = (
    *(f"attention/{name}" for name in ("query", "key", "value", "output")),
    *(f"attention/{name}" for name in ("query_latent", "query_up", "latent")),
    "attention/key_value",
    *(f"mlp/{name}" for name in ("gate", "up", "down")),
    *(f"mlp/shared/{name}" for name in ("gate", "up", "down")),
)


def main(folder: Path) -> None:
    for family in sys.argv[2:] or tables.FAMILIES:
        opened = pretrained.open_model(tables.FIXTURES / family)
        write(folder / family, opened.model, tree_paths.by_path(opened.arrays()))
    for name in () if sys.argv[2:] else ("ours_folded", "ours_folded_biases"):
        arrays, _ = drawn(OURS[name], equal_head=False)
        write(folder / name, OURS[name], arrays)


def write(folder: Path, model: Any, arrays: dict[str, Any]) -> None:
    """A model with drawn adapters, and its logits."""
    choice = writing.for_folder(model)
    there = {forms.role(path)[0] for path in arrays}
    roles = [r for r in ROLES if r in there]
    roles = [r for r in roles if peft_folder.is_linear(choice.family, r)]
    targets = [f"*/{role}" for role in roles]
    make = functools.partial(LoRA, model=model, rank=RANK, alpha=ALPHA, targets=targets)
    graph, state = nnx.split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))
    draw, values = np.random.default_rng(0), {}
    for path, leaf in tree_paths.by_path(nnx.to_pure_dict(state)).items():
        fresh = draw.normal(0, 0.3, leaf.shape).astype(np.float32)
        stored = fresh if low_rank.is_of(path) else np.float32(arrays[path])
        values[path] = stored
    filled = jax.tree.unflatten(jax.tree.structure(state), list(values.values()))
    rows = tables.expected("llama")
    logits = tables.logits(nnx.merge(graph, filled), rows)
    folder.mkdir(parents=True)
    save_file({**rows, "logits": logits}, folder / "expected.safetensors")

    # The model, with and without the adapters in it; then these alone.
    tensors = {
        path: StoredTensor(x.shape, x.dtype, lambda x=x: x)
        for path, x in values.items()
    }
    merged = in_kernels(tensors, scale=ALPHA / RANK)
    plain = {p: x for p, x in values.items() if not low_rank.is_of(p)}
    both = {path: tensor.read() for path, tensor in merged.items()}
    for name, one in {"base": plain, "merged": both}.items():
        (folder / name).mkdir()
        writing.folder.write(
            folder / name, choice, one, dtype="float32", context=64, begin=1, end=2
        )
    adapters = {p: x for p, x in values.items() if low_rank.is_of(p)}
    (folder / "adapters").mkdir()
    peft_folder.write(
        folder / "adapters",
        peft_folder.tensors(choice, adapters),
        dtype="float32",
        rank=RANK,
        alpha=ALPHA,
        base=str((folder / "base").absolute()),
        num_layers=choice.fields["num_layers"],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
