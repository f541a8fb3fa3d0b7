"""Tokens a second of `data.TokenizedText`, against `tokenizers`' own batch encoding.

    make bench ONLY=tokenize

JSON lines are read, hashed, encoded and written to the cache; the library encodes the
same texts, all in memory, by one call. Each in a process of its own, and twice as much
text again: what the process holds beside mapped files should not grow with the text.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner import data

SIZES = (32, 64)  # MB of text
VOCABULARY = 4096


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        train_tokenizer(root / "tokenizer.json")
        for size in SIZES:
            write_corpus(root / f"{size}.jsonl", size)
            library, ours = (measured(who, root, size) for who in ("library", "ours"))
            print(
                f"{size} MB: ours {ours['rate'] / 1e6:.2f} million tokens/s, "
                f"{ours['memory']:.0f} MB; the library {library['rate'] / 1e6:.2f}, "
                f"{library['memory']:.0f} MB; {ours['rate'] / library['rate']:.2f}x",
                flush=True,
            )


def train_tokenizer(path: Path) -> None:
    source = data.ByteBPE(data.PythonLibrary(split="held_out"), vocab_size=VOCABULARY)
    source.load().tokenizer.save(str(path))


def write_corpus(path: Path, megabytes: int) -> None:
    """Documents of about 2 kB of the standard library, over and over."""
    text = "".join(document.text for document in data.PythonLibrary(split="held_out"))
    parts = [text[i : i + 2000] for i in range(0, len(text), 2000)]
    written = number = 0
    with path.open("w") as file:
        while written < megabytes * 1e6:
            part = f"{number} {parts[number % len(parts)]}"
            file.write(json.dumps({"text": part}) + "\n")
            written, number = written + len(part), number + 1


def measured(who: str, root: Path, size: int) -> dict[str, float]:
    command = [sys.executable, __file__, who, str(root), str(size)]
    return json.loads(subprocess.check_output(command))


def measure(who: str, root: Path, size: int) -> None:
    """Print tokens a second, and the most memory beside mapped files in MB."""
    documents = data.JsonLines(files=[str(root / f"{size}.jsonl")])
    tokenizer = data.TokenizerFile(str(root / "tokenizer.json"))
    vocabulary = tokenizer.load()
    if who == "library":
        texts = [document.text for document in documents]
        start = time.perf_counter()
        encodings = vocabulary.tokenizer.encode_batch_fast(texts)
        seconds = time.perf_counter() - start
        tokens = sum(len(encoding) for encoding in encodings)
        memory = anonymous()
    else:
        source = data.TokenizedText(documents, tokenizer)
        start = time.perf_counter()
        rows = source.load(cache=str(root / f"cache-{size}"))
        seconds = time.perf_counter() - start
        memory = anonymous()
        tokens = len(rows.packing.tokens)
    print(json.dumps({"rate": tokens / seconds, "memory": memory}))


def anonymous() -> float:
    """Return the memory of this process beside mapped files, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(x.split()[1]) / 1e3 for x in lines if x.startswith("RssAnon"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
