#!/usr/bin/env bash
# transformers 5.24.0 (tokenizers 0.23.3, Python 3.11): where tokenizer_config.json says
# LlamaTokenizer, AutoTokenizer takes vocabulary and merges from tokenizer.json, but not its
# normalizer. Two spaces before a word, and a space after a special token, become other ids.
#
# Guess:  tokenizer.json is the whole tokenizer. AutoTokenizer on the folder gives what
#         `tokenizers` gives for the file, as transformers 4.57.6 does.
# Seen:   the file's Prepend and Replace are gone; a Metaspace pre-tokenizer stands in their
#         place, which prepends nothing where the text begins with a space. With
#         tokenizer_class PreTrainedTokenizerFast the file is read as it is.
#
#         text      tokenizer.json     4.57.6             5.24.0
#         '  a'     ▁▁ ▁a              ▁▁ ▁a              ▁▁ a
#         '</s> a'  </s> ▁▁ a          </s> ▁▁ a          </s> ▁a
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

cat > build.py <<'PYTHON'
import json
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers

pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
pieces += ["▁", "a", "▁▁", "▁a"]
tokenizer = Tokenizer(
    models.BPE(
        {piece: number for number, piece in enumerate(pieces)},
        [("▁", "▁"), ("▁", "a")],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
)
# As in the tokenizer.json of Llama 2.
tokenizer.normalizer = normalizers.Sequence(
    [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
)
tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
Path("model").mkdir()
tokenizer.save("model/tokenizer.json")
config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
config["tokenizer_class"] = "LlamaTokenizer"
Path("model/tokenizer_config.json").write_text(json.dumps(config))
PYTHON

cat > read.py <<'PYTHON'
import json
import sys

from tokenizers import Tokenizer
from transformers import AutoTokenizer

file, auto = (
    Tokenizer.from_file("model/tokenizer.json"),
    AutoTokenizer.from_pretrained("model"),
)
rows = {}
for text in ("  a", "</s> a"):
    ids = auto(text, add_special_tokens=False).input_ids
    rows[text] = [file.encode(text).tokens, auto.convert_ids_to_tokens(ids)]
json.dump(rows, open(sys.argv[1], "w"))
PYTHON

export HF_HUB_OFFLINE=1
for version in 4.57.6 5.24.0; do
  python3 -m venv "venv-$version"
  "venv-$version/bin/pip" install --quiet "transformers==$version"
  [ -d model ] || "venv-$version/bin/python" build.py
  "venv-$version/bin/python" read.py "$version.json" 2> /dev/null
done

python3 - <<'PYTHON'
import json

old, new = (json.load(open(f"{version}.json")) for version in ("4.57.6", "5.24.0"))
print("text      tokenizer.json     4.57.6             5.24.0")
for text, (file, before) in old.items():
    now = new[text][1]
    print(f"{text!r:9} {' '.join(file):18} {' '.join(before):18} {' '.join(now)}")
    assert before == file == new[text][0], text
    assert now != file, text
PYTHON
