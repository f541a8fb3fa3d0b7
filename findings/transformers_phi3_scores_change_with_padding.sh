#!/usr/bin/env bash
# transformers 5.24.0 (torch 2.13.0, Python 3.11, CPU): Phi-3 with `longrope` picks its
# short or its long factors by the number of columns, padding included. So the logits of
# a row change when a longer row joins its batch and pushes the padding past
# `original_max_position_embeddings`, attention mask or not. And `generate` throws its
# cache away at that length: one step reads the whole row again.
#
# Guess:  tokens after a row, masked, change nothing of it; each step of `generate` but
#         the first reads one token.
# Seen:   a tiny Phi-3 of original length 16, a row of 12 tokens padded on the right, the
#         greatest difference of its logits from those without padding, and the tokens that
#         each step of `generate` reads after a prompt of 10:
#
#         padded to 16: 0.0000 (logits up to 9.2)
#         padded to 17: 10.2929 (logits up to 9.2)
#         steps: 10 1 1 1 1 1 1 17 1 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0

cat > "$folder/padding.py" <<'PYTHON'
import torch
from transformers import Phi3Config, Phi3ForCausalLM

ORIGINAL, ROW = 16, 12
torch.manual_seed(0)
config = Phi3Config(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=64,
    original_max_position_embeddings=ORIGINAL,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    initializer_range=0.5,
    rope_parameters={
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
        "original_max_position_embeddings": ORIGINAL,
        "factor": 4.0,
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
    },
)
model = Phi3ForCausalLM(config).eval()
row = torch.randint(3, 64, (1, ROW))


@torch.no_grad()
def logits(columns):
    ids = torch.nn.functional.pad(row, (0, columns - ROW))
    mask = (torch.arange(columns) < ROW).long()[None]
    return model(ids, attention_mask=mask).logits[:, :ROW]


alone = logits(ROW)
for columns in (ORIGINAL, ORIGINAL + 1):
    apart = (logits(columns) - alone).abs().max()
    print(f"padded to {columns}: {apart:.4f} (logits up to {alone.abs().max():.1f})")

reads = []
model.model.register_forward_pre_hook(
    lambda module, args, fields: reads.append(fields["input_ids"].shape[1]),
    with_kwargs=True,
)
model.generate(row[:, :10], max_new_tokens=10, min_new_tokens=10, do_sample=False)
print("steps:", *reads)
PYTHON
"$folder/venv/bin/python" "$folder/padding.py" 2> /dev/null | tee "$folder/log"
awk '/^padded to 16/ && $4 > 1e-4 { bad = 1 } /^padded to 17/ && $4 < 0.1 { bad = 1 }
  END { exit bad }' "$folder/log"
grep -qx 'steps: 10 1 1 1 1 1 1 17 1 1' "$folder/log"
