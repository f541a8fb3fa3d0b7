"""Adapters of peft over the tiny models, and what they answer there.

    python tests/parity/build_adapters.py

Runs in the environment of `make parity` and rewrites tests/runner/starts/peft_adapters.
Those of a tied embedding are what a merge by peft 0.21.2 adds twice; the expected
logits are of the adapters beside their model.
"""

# These libraries are in .venv-parity, which the linters do not see.
# pyright: reportMissingImports=false

import json
import os
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers
import transformers.utils.logging as messages
from safetensors.torch import load_file, save_file

TESTS = Path(__file__).parents[1]
MODELS = TESTS / "models" / "pretrained" / "fixtures"
ADAPTERS = TESTS / "runner" / "starts" / "peft_adapters"
CASES = {
    "some_kernels": ("smollm2", {"target_modules": ["q_proj", "o_proj", "down_proj"]}),
    "all_kernels": (
        "llama",
        {
            "target_modules": "all-linear",
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2},
        },
    ),
    "tied_head": ("smollm2", {"target_modules": ["q_proj", "lm_head"]}),
    "tied_embedding": ("smollm2", {"target_modules": ["embed_tokens"]}),
    "both_tied": ("smollm2", {"target_modules": ["embed_tokens", "lm_head"]}),
}


def main() -> None:
    messages.disable_progress_bar()
    warnings.simplefilter("ignore")
    for name, (family, fields) in CASES.items():
        torch.manual_seed(0)
        model = peft.get_peft_model(
            transformers.AutoModelForCausalLM.from_pretrained(
                MODELS / family, dtype=torch.float32, attn_implementation="eager"
            ),
            peft.LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", **fields),
        ).eval()
        for parameter, values in model.named_parameters():
            if "lora_" in parameter:
                values.data = torch.randn_like(values) * 0.3
        folder = ADAPTERS / name
        model.save_pretrained(folder)
        (folder / "README.md").unlink()
        config = json.loads((folder / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = family
        config["target_modules"] = sorted(config["target_modules"])  # of a set
        text = json.dumps(config, indent=2, sort_keys=True)
        (folder / "adapter_config.json").write_text(text + "\n")
        expected = load_file(MODELS / family / "expected.safetensors")
        tokens = expected["tokens"][:1][expected["segment_ids"][:1] == 1]
        with torch.no_grad():
            logits = model(tokens[None].long()).logits[0]
        save_file({"tokens": tokens, "logits": logits}, folder / "expected.safetensors")
        (folder / "adapter_model.safetensors").chmod(0o644)
        (folder / "expected.safetensors").chmod(0o644)
        print(f"{name}: peft {peft.__version__}")


if __name__ == "__main__":
    main()
