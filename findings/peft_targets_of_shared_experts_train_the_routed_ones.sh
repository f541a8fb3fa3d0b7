#!/usr/bin/env bash
# peft 0.21.2 (transformers 5.24.0, torch 2.13.0, Python 3.11): LoRA targets that name the
# shared expert of a DeepSeek-V3 alone train the routed experts, and not the shared one.
#
# Guess:  `target_modules=".*shared_experts\.(gate|up|down)_proj"` matches three linear
#         layers and nothing else, so three pairs of adapters, all in `shared_experts`.
# Seen:   two pairs, both in `experts`, whose kernels of all routed experts are one tensor
#         each; none in `shared_experts`. Two warnings speak of patterns of ranks that
#         nobody gave. Who trains such a model trains other weights than those named.
#
#         mlp.experts
#         mlp.experts.base_layer
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install --quiet peft==0.21.2 transformers==5.24.0 torch==2.13.0 numpy==2.4.6

cat > adapters.py <<'PYTHON'
import peft
import transformers

config = transformers.DeepseekV3Config(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=32,
    moe_intermediate_size=8,
    num_hidden_layers=1,
    first_k_dense_replace=0,
    num_attention_heads=2,
    num_key_value_heads=2,
    n_routed_experts=4,
    n_shared_experts=1,
    num_experts_per_tok=2,
    n_group=1,
    topk_group=1,
    q_lora_rank=None,
    kv_lora_rank=8,
    qk_nope_head_dim=4,
    qk_rope_head_dim=4,
    v_head_dim=8,
)
model = transformers.DeepseekV3ForCausalLM(config)
named = [name for name, _ in model.named_modules() if "shared_experts." in name]
assert sum(name.endswith("_proj") for name in named) == 3, named
targets = r".*shared_experts\.(gate|up|down)_proj"
tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets))
trained = [name for name, x in tuned.named_parameters() if x.requires_grad]
places = {name.partition(".layers.0.")[2].partition(".lora_")[0] for name in trained}
print("\n".join(sorted(places)))
PYTHON

HF_HUB_OFFLINE=1 venv/bin/python -W ignore adapters.py 2> errors > seen || { cat errors; exit 1; }
cat seen
diff seen - <<'EXPECTED'
mlp.experts
mlp.experts.base_layer
EXPECTED
