#!/usr/bin/env bash
# llama.cpp's server, build 11549 (xllamacpp 2026.10.11549, Python 3.11): the probabilities
# behind `n_probs` add up to more than 1, by a thousandth at a vocabulary of 262,144.
#
# Guess:  a log-probability is the logit less the log of the sum of all exponentials, to
#         the last digits of float32, whatever the vocabulary: 1e-6 nats.
# Seen:   the exponentials are added one after another in float32, the largest first, so
#         that the last thousands hardly count beside the sum so far. All probabilities of
#         a token are too large by one factor: a cross-entropy or a divergence made of
#         these is off by that many nats at every token, and 1 less the sum of the best
#         is no longer the mass of the others. Logits drawn from N(0, 9):
#
#         vocabulary   sum of the probabilities   log-probabilities too large by
#              4,096                   1.000005                          0.00001
#             49,152                   1.000083                          0.00008
#            262,144                   1.001198                          0.00120
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6

cat > "$folder/sums.py" <<'PYTHON'
import sys

import gguf
import numpy as np
import xllamacpp

# One layer that adds nothing and one embedding for all: the head alone gives the logits.
DIM, BYTES = 32, 256
file, size = sys.argv[1], int(sys.argv[2])
logits = 3.0 * np.random.default_rng(0).normal(size=size)
head = np.zeros((size, DIM), np.float32)
head[:, 0] = logits / np.sqrt(DIM)  # the norm makes the embedding √DIM long
embedding = np.zeros((size, DIM), np.float32)
embedding[:, 0] = 1.0

printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
others = iter(range(256, 512))
letters = [chr(b) if b in printable else chr(next(others)) for b in range(BYTES)]
tokens = [*letters, *(f"word{i}" for i in range(BYTES, size))]

writer = gguf.GGUFWriter(file, "llama")
writer.add_context_length(64)
writer.add_embedding_length(DIM)
writer.add_block_count(1)
writer.add_feed_forward_length(32)
writer.add_head_count(2)
writer.add_head_count_kv(2)
writer.add_layer_norm_rms_eps(1e-9)
writer.add_vocab_size(size)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("gpt-2")
writer.add_token_list(tokens)
writer.add_token_types([1] * (size - 1) + [3])
writer.add_token_merges([f"{letters[97]} {letters[98]}"])
writer.add_eos_token_id(size - 1)
writer.add_bos_token_id(size - 1)
shapes = {f"attn_{x}": (DIM, DIM) for x in ("q", "k", "v", "output")}
shapes |= {f"ffn_{x}": (DIM, DIM) for x in ("gate", "up", "down")}
writer.add_tensor("token_embd.weight", embedding)
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
answer = xllamacpp.Server(params).handle_completions(
    {
        "prompt": [ord("a")],
        "n_predict": 1,
        "n_probs": size,
        "temperature": 0,
        "logit_bias": [[ord("b"), 1000.0]],  # draws a letter; scores are before it
    }
)
scores = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
assert len(scores) == size
of_server = np.array([x["logprob"] for x in scores])
exact = logits - np.log(np.sum(np.exp(logits)))
shift = np.median(of_server - exact[[x["id"] for x in scores]])
total = np.sum(np.exp(of_server))
print(f"{size:10,}   sum {total:.6f}   too large by {shift:.5f}")
if size == 4096:
    assert abs(total - 1) < 2e-5
else:
    assert abs(shift - np.log(total)) < 1e-5
    assert total > {49_152: 1.00007, 262_144: 1.001}[size]
PYTHON
for size in 4096 49152 262144; do
  "$folder/venv/bin/python" "$folder/sums.py" "$folder/$size.gguf" "$size"
done
