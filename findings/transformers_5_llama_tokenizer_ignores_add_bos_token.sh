#!/usr/bin/env bash
# transformers 5.24.0 (tokenizers 0.23.3, Python 3.11): "add_bos_token": true in
# tokenizer_config.json of a LlamaTokenizer adds no beginning token, if tokenizer.json has no
# post-processor. DeepSeek-V3's files are such a pair.
#
# Guess:  the flag decides, as in transformers 4.57.6, which gives <s> even without it.
# Seen:   no token is added, without a word, and the loaded tokenizer's own attribute
#         add_bos_token is False. A model that was trained on rows that begin with <s> is
#         then asked about rows that do not.
#
#         4.57.6  add_bos_token True   ids of 'a': <s> ▁a
#         5.24.0  add_bos_token False   ids of 'a': ▁a
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

cat > build.py <<'PYTHON'
import json
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers

pieces = ["<unk>", "<s>", "</s>", "▁", "a", "▁a"]
vocabulary = {piece: number for number, piece in enumerate(pieces)}
tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>"))
tokenizer.normalizer = normalizers.Sequence(
    [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
)
tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
Path("model").mkdir()
tokenizer.save("model/tokenizer.json")
config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
config |= {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}
Path("model/tokenizer_config.json").write_text(json.dumps(config))
PYTHON

cat > read.py <<'PYTHON'
import sys

from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("model")
tokens = " ".join(tokenizer.convert_ids_to_tokens(tokenizer("a").input_ids))
print(f"{sys.argv[1]}  add_bos_token {tokenizer.add_bos_token}   ids of 'a': {tokens}")
PYTHON

export HF_HUB_OFFLINE=1
for version in 4.57.6 5.24.0; do
  python3 -m venv "venv-$version"
  "venv-$version/bin/pip" install --quiet "transformers==$version"
  [ -d model ] || "venv-$version/bin/python" build.py
  "venv-$version/bin/python" read.py "$version" 2> /dev/null | tee -a seen
done

grep -q "^4.57.6  add_bos_token True   ids of 'a': <s> ▁a$" seen
grep -q "^5.24.0  add_bos_token False   ids of 'a': ▁a$" seen
