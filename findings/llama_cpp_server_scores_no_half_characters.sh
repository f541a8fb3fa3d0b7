#!/usr/bin/env bash
# llama.cpp's server, build 11549 (xllamacpp 2026.10.11549, Python 3.11): `n_probs` of a
# request for one token gives nothing where that token is a part of a character.
#
# Guess:  {"prompt": ids, "n_predict": 1, "n_probs": k} answers with the k best tokens
#         after the prompt, whatever they are.
# Seen:   a token that ends within a character is kept back until the character is whole,
#         and its scores with it: `completion_probabilities` is missing from the answer,
#         which says nothing of it. A bias that has a whole character drawn in its place
#         (`logit_bias`) brings them, and they are those before the bias.
#
#         byte drawn    asked plainly    asked with logit_bias
#         0x41 'A'      5 scores         5 scores, the same
#         0xc3          none             5 scores, the first of 0xc3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet xllamacpp==2026.10.11549 gguf==0.19.0 numpy

"$folder/venv/bin/python" - "$folder/tiny.gguf" <<'PYTHON'
import sys

import gguf
import numpy as np
import xllamacpp

# One layer that adds nothing: after byte b the best token is b + 1, by the head alone.
DIM, BYTES = 320, 256
file, draw = sys.argv[1], np.random.default_rng(0)
printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
others = iter(range(256, 512))
letters = [chr(b) if b in printable else chr(next(others)) for b in range(BYTES)]
tokens = [*letters, letters[97] + letters[98], "<|endoftext|>"]
eye = np.zeros((len(tokens), DIM), np.float32)
eye[np.arange(len(tokens)), np.arange(len(tokens))] = 1.0
head = 0.2 * draw.normal(size=(len(tokens), DIM)).astype(np.float32)
head[1:] += np.eye(len(tokens), DIM, dtype=np.float32)[:-1]

writer = gguf.GGUFWriter(file, "llama")
writer.add_context_length(64)
writer.add_embedding_length(DIM)
writer.add_block_count(1)
writer.add_feed_forward_length(32)
writer.add_head_count(2)
writer.add_head_count_kv(2)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_vocab_size(len(tokens))
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("gpt-2")
writer.add_token_list(tokens)
writer.add_token_types([1] * (len(tokens) - 1) + [3])
writer.add_token_merges([f"{letters[97]} {letters[98]}"])
writer.add_eos_token_id(len(tokens) - 1)
writer.add_bos_token_id(len(tokens) - 1)
shapes = {
    **{f"attn_{x}": (DIM, DIM) for x in ("q", "k", "v", "output")},
    **{"ffn_gate": (32, DIM), "ffn_up": (32, DIM), "ffn_down": (DIM, 32)},
}
writer.add_tensor("token_embd.weight", eye)
writer.add_tensor("output.weight", head)
for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
    writer.add_tensor(f"{name}.weight", np.ones(DIM, np.float32))
for name, shape in shapes.items():
    writer.add_tensor(f"blk.0.{name}.weight", np.zeros(shape, np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_gpu_layers = file, 64, 0
params.n_parallel, params.warmup, params.verbosity = 1, False, -1
server = xllamacpp.Server(params)


def best(byte, **more):
    answer = server.handle_completions(
        {"prompt": [byte], "n_predict": 1, "n_probs": 5, "temperature": 0, **more}
    )
    content = (answer["choices"][0].get("logprobs") or {}).get("content") or []
    if not content:
        return None
    return [(x["id"], round(x["logprob"], 4)) for x in content[0]["top_logprobs"]]


letter = {"logit_bias": [[ord("f"), 1000.0]]}
for byte in (0x41, 0xC3):
    print(f"{byte:#x}: {best(byte - 1)}; with logit_bias: {best(byte - 1, **letter)}")

assert best(0x40)[0][0] == 0x41 and best(0x40) == best(0x40, **letter)
assert best(0xC2) is None
assert best(0xC2, **letter)[0][0] == 0xC3
PYTHON
