#!/usr/bin/env bash
# transformers 5.24.0 (torch 2.13.0, CPU): weights of 8 bits, `quant_method` fp8 with
# `weight_block_size` [128, 128] and `dequantize`, a matrix whose last block is no whole one
#
# Guess:  row i has the scale of block i // 128, as the configuration says and as the
#         weights of DeepSeek-V3 are made; the last block has the rows that are left.
# Seen:   the size in the configuration is not read: a block has as many rows as the matrix
#         has by its number of scales. Of 192 rows and two scales the first 96 have the first
#         scale, so that a third of the rows that should have it have the other, without a
#         word; 576 rows of DeepSeek-V3's `kv_a_proj_with_mqa`, five scales, are refused
#         ("not divisible by scale grid").
#
#         192 rows, 2 scales: 32 rows have a wrong scale
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 accelerate==1.15.0

HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - "$folder" 2>"$folder/log" <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

folder = Path(sys.argv[1]) / "model"
config = transformers.LlamaConfig(
    vocab_size=8,
    hidden_size=128,
    intermediate_size=192,
    num_hidden_layers=1,
    num_attention_heads=2,
)
transformers.LlamaForCausalLM(config).save_pretrained(folder)
tensors = load_file(folder / "model.safetensors")
name = "model.layers.0.mlp.gate_proj.weight"
for matrix in [n for n in tensors if "_proj.weight" in n]:
    rows, columns = tensors[matrix].shape
    blocks = -(-rows // 128), -(-columns // 128)
    tensors[matrix] = torch.ones(rows, columns).to(torch.float8_e4m3fn)
    scales = 1.0 + torch.arange(blocks[0] * blocks[1], dtype=torch.float32)
    tensors[f"{matrix}_scale_inv"] = scales.reshape(blocks)
save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
entries = json.loads((folder / "config.json").read_text())
entries["quantization_config"] = {
    "quant_method": "fp8",
    "weight_block_size": [128, 128],
    "dequantize": True,
}
(folder / "config.json").write_text(json.dumps(entries))

model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
read = model.get_parameter(name)[:, 0]
meant = 1.0 + torch.arange(192) // 128
wrong = int((read != meant).sum())
print(f"192 rows, 2 scales: {wrong} rows have a wrong scale")
raise SystemExit(wrong == 0)
PYTHON
