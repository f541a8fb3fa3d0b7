#!/usr/bin/env bash
# llama.cpp, build 11549 (xllamacpp 2026.10.11549), and transformers 5.24.0 (torch 2.13.0,
# Python 3.11, CPU): rotary embeddings by YaRN with the numbers that gpt-oss is published
# with are not the same in both.
#
# Guess:  one YaRN. The same weights, base 150,000, factor 32, original length 4,096 and 32
#         and 1 turns give the same next token in both programs, to float32.
# Seen:   gpt-oss says "truncate": false: its ramp goes from pair 8.09 to pair 17.4.
#         llama.cpp always rounds the ends, to 8 and 18, and .gguf has no key that says
#         otherwise. The frequencies between turn up to 1.8 times as fast. Log-probabilities
#         of the next of 258 tokens after n, a tiny Llama of random weights, the greatest
#         difference from llama.cpp's:
#
#            n   truncate true   truncate false
#           40         0.00004          0.07711
#          300         0.00042          6.38555
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 \
  xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6

cat > "$folder/ramp.py" <<'PYTHON'
import sys

import gguf
import numpy as np
import torch
import xllamacpp
from transformers import LlamaConfig, LlamaForCausalLM

DIM, INNER, LAYERS, HEADS, WIDTH = 128, 64, 2, 2, 64
BASE, FACTOR, LENGTH = 150_000.0, 32.0, 4096  # as gpt-oss has them
printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
others = iter(range(256, 512))
letters = [chr(b) if b in printable else chr(next(others)) for b in range(256)]
tokens = [*letters, letters[97] + letters[98], "<|endoftext|>"]


def llama(truncate):
    torch.manual_seed(0)
    rope = {
        "rope_type": "yarn",
        "rope_theta": BASE,
        "factor": FACTOR,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "original_max_position_embeddings": LENGTH,
        "truncate": truncate,
    }
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=DIM,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=WIDTH,
        max_position_embeddings=int(FACTOR) * LENGTH,
        rms_norm_eps=1e-5,
        initializer_range=0.3,
        tie_word_embeddings=False,
        rope_parameters=rope,
    )
    return LlamaForCausalLM(config).eval()


def interleaved(kernel):
    """Rotated pairs side by side, as files of Llama hold them."""
    halves = kernel.reshape(HEADS, 2, WIDTH // 2, DIM)
    return halves.swapaxes(1, 2).reshape(HEADS * WIDTH, DIM)


def write(file):
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(int(FACTOR) * LENGTH)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_rope_dimension_count(WIDTH)
    writer.add_rope_freq_base(BASE)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(FACTOR)
    writer.add_rope_scaling_orig_ctx_len(LENGTH)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 1) + [3])
    writer.add_token_merges([f"{letters[97]} {letters[98]}"])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_bos_token_id(len(tokens) - 1)
    names = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    weights = {k: v.numpy() for k, v in llama(True).state_dict().items()}
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output.weight", weights["lm_head.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    for layer in range(LAYERS):
        for ours, theirs in names.items():
            x = weights[f"model.layers.{layer}.{theirs}.weight"]
            turned = interleaved(x) if ours in ("attn_q", "attn_k") else x
            writer.add_tensor(f"blk.{layer}.{ours}.weight", turned)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


assert not [key for key in dir(gguf.Keys.Rope) if "TRUNC" in key]
write(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_gpu_layers = sys.argv[1], 512, 0
params.n_parallel, params.warmup, params.verbosity = 1, False, -1
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
off = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
params.flash_attn_type = off
server = xllamacpp.Server(params)
models = {truncate: llama(truncate) for truncate in (True, False)}
for length in (40, 300):
    row = np.random.default_rng(0).integers(33, 127, length).tolist()
    answer = server.handle_completions(
        {
            "prompt": row,
            "n_predict": 1,
            "n_probs": len(tokens),
            "temperature": 0,
            "logit_bias": [[ord("b"), 1000.0]],  # draws a letter; scores are before it
        }
    )
    scores = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    of_server = np.zeros(len(tokens))
    of_server[[x["id"] for x in scores]] = [x["logprob"] for x in scores]
    gaps = {}
    for truncate, model in models.items():
        with torch.no_grad():
            logits = model(torch.tensor([row])).logits[0, -1]
        ours = torch.log_softmax(logits, -1).numpy()
        gaps[truncate] = np.abs(ours - of_server).max()
    print(f"{length:4}   {gaps[True]:.5f}   {gaps[False]:.5f}")
    assert gaps[True] < 0.005 < 0.05 < gaps[False]
PYTHON
"$folder/venv/bin/python" "$folder/ramp.py" "$folder/tiny.gguf"
