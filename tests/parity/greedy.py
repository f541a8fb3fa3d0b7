"""Most probable continuations of the tiny models of `build.py` in `transformers`.

Run by `make parity`; writes tests/models/pretrained/greedy.json, the tokens after each
prompt by family. A prompt is continued alone, so that nothing is padded.
"""

# Torch and transformers are in .venv-parity, which the linters do not see.
# pyright: reportMissingImports=false

import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import torch
import transformers

FIXTURES = Path(__file__).parents[1] / "models" / "pretrained" / "fixtures"
PROMPTS = [[3, 1, 41, 5, 9], [26, 53], [58]]
NEW_TOKENS = 12
# Where a text outgrows `original_max_position_embeddings`, Phi-3 computes anew what is
# cached.
LEFT_OUT = {"phi3_longrope"}


def main() -> None:
    folders = [x for x in sorted(FIXTURES.iterdir()) if x.name not in LEFT_OUT]
    tokens = {folder.name: continued(folder) for folder in folders}
    content = {"prompts": PROMPTS, "tokens": tokens}
    path = FIXTURES.with_name("greedy.json")
    path.write_text(json.dumps(content, indent=None).replace("]], ", "]],\n ") + "\n")


@torch.no_grad()
def continued(folder: Path) -> list[list[int]]:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    rows = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=NEW_TOKENS,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=None,
            pad_token_id=0,
        )
        rows.append(out[0, len(prompt) :].tolist())
    return rows


if __name__ == "__main__":
    main()
