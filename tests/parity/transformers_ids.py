"""Ids of texts by the tokenizers of folders, in `transformers`.

    python tests/parity/transformers_ids.py TEXTS.json FOLDER ...

Runs in an environment of its own, without torch. Prints JSON: the version, and by
folder the ids of each text as `AutoTokenizer` encodes it, special tokens added.
"""

# Transformers is in .venv-tokenizers, which the linters do not see.
# pyright: reportMissingImports=false

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import transformers


def main() -> None:
    texts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    ids = {}
    for folder in sys.argv[2:]:
        if (Path(folder) / "tokenizer.json").is_file():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        else:
            tokenizer = transformers.GPT2TokenizerFast.from_pretrained(folder)
            tokenizer.save_pretrained(folder)
        ids[folder] = [tokenizer(text)["input_ids"] for text in texts]
    print(json.dumps({"version": transformers.__version__, "ids": ids}))


if __name__ == "__main__":
    main()
