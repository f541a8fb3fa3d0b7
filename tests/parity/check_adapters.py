"""Exported adapters in peft, beside their model and in it, against our logits.

    python tests/parity/check_adapters.py FOLDER

Runs in the environment of `make parity`, over what `export_adapters.py` wrote.
"""

# These libraries are in .venv-parity, which the linters do not see.
# pyright: reportMissingImports=false

import importlib.metadata
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers
import transformers.utils.logging as messages
from check_exported import LOGITS, difference, split
from safetensors.numpy import load_file


def main(folder: Path) -> None:
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    versions = (f"{n} {importlib.metadata.version(n)}" for n in ("peft", "torch"))
    print(", ".join(versions))
    print(f"{'model':24} {'beside':>9} {'merged':>9} {'ours':>9} {'moved':>9}")
    wrong = []
    for model in sorted(folder.iterdir()):
        documents = list(split(load_file(model / "expected.safetensors")))

        def largest(loaded, documents=documents) -> float:
            return max(difference(loaded, *document) for document in documents)

        base = read(model / "base")
        moved = largest(base)
        beside = peft.PeftModel.from_pretrained(base, str(model / "adapters"))
        differences = [
            largest(beside),
            largest(beside.merge_and_unload()),
            largest(read(model / "merged")),
        ]
        shown = " ".join(f"{x:9.1e}" for x in (*differences, moved))
        print(f"{model.name:24} {shown}", flush=True)
        wrong += [] if max(differences) < LOGITS < moved else [model.name]
    if wrong:
        raise SystemExit(f"{len(wrong)} differ: {', '.join(wrong)}")


def read(folder: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
