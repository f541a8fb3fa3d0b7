"""Tokens a second of `data.TokenizedText`, against `tokenizers`' own batch encoding.

    make bench ONLY=tokenize
    PYTHONPATH=. python tests/benchmarks/tokenize_bench.py 2000    # MB, ours alone

JSON lines are read, hashed, encoded and written to the cache; the library encodes the
same texts, all in memory, by one call. Each in a process of its own, in pairs whose
order alternates; the ratio is the median of the pairs', of tokens a second and of
tokens a second of processor, which other work on the machine moves less. Memory is the
most that the process held, mapped files included, and what it held beside them.
"""

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner import data

SIZE, PAIRS = 16, 3  # MB of text
VOCABULARY = 4096


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        train_tokenizer(root / "tokenizer.json")
        for size in sizes or (SIZE, 2 * SIZE):
            write_corpus(root / f"{size}.jsonl", size)
            if sizes:
                print(f"{size} MB: {described(measured('ours', root, size, 0))}")
            else:
                compare(root, size)


def compare(root: Path, size: int) -> None:
    runs: dict[str, list[dict[str, float]]] = {"library": [], "ours": []}
    for pair in range(PAIRS):
        for who in list(runs)[:: 1 if pair % 2 else -1]:
            runs[who].append(measured(who, root, size, pair))
    for who, of in runs.items():
        print(f"{size} MB, {who}: {described(of[-1])}")
    for rate in ("rate", "processor_rate"):
        both = zip(runs["ours"], runs["library"], strict=True)
        ratios = [ours[rate] / library[rate] for ours, library in both]
        pairs = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        name = "of a second" if rate == "rate" else "of a second of processor"
        print(f"{size} MB, {name}: {statistics.median(ratios):.2f}x ({pairs})")
    sys.stdout.flush()


def described(run: dict[str, float]) -> str:
    return (
        f"{run['rate'] / 1e6:.2f} million tokens/s, {run['seconds']:.0f} s, "
        f"{run['processor_rate'] / 1e6:.2f} of a second of processor, at most "
        f"{run['resident']:.0f} MB, {run['anonymous']:.0f} beside mapped files"
    )


def train_tokenizer(path: Path) -> None:
    source = data.ByteBPE(data.PythonLibrary(split="held_out"), vocab_size=VOCABULARY)
    source.load().tokenizer.save(str(path))


def write_corpus(path: Path, megabytes: int) -> None:
    """Parts of the standard library, some 2 kB, a word in 64 another one."""
    text = "".join(document.text for document in data.PythonLibrary(split="held_out"))
    words = text.split(" ")
    rng = random.Random(0)
    written = number = 0
    with path.open("w") as file:
        while written < megabytes * 1e6:
            start = rng.randrange(len(words) - 400)
            part = words[start : start + rng.randrange(100, 400)]
            for at in range(0, len(part), 64):
                part[at] = rng.choice(words)
            line = f"{number} {' '.join(part)}"
            file.write(json.dumps({"text": line}) + "\n")
            written, number = written + len(line), number + 1


def measured(who: str, root: Path, size: int, run: int) -> dict[str, float]:
    command = [
        sys.executable,
        __file__,
        "--measure",
        who,
        str(root),
        f"{size}",
        f"{run}",
    ]
    return json.loads(subprocess.check_output(command))


def measure(who: str, root: Path, size: str, run: str) -> None:
    """Print tokens a second, and the most memory in MB."""
    documents = data.JsonLines(files=[str(root / f"{size}.jsonl")])
    tokenizer = data.TokenizerFile(str(root / "tokenizer.json"))
    vocabulary = tokenizer.load()
    texts = [document.text for document in documents] if who == "library" else []
    start, processor = time.perf_counter(), time.process_time()
    if who == "library":
        encodings = vocabulary.tokenizer.encode_batch_fast(texts)
        seconds, processor = elapsed(start, processor)
        tokens = sum(len(encoding) for encoding in encodings)
    else:
        source = data.TokenizedText(documents, tokenizer)
        rows = source.load(cache=str(root / f"cache-{size}-{run}"))
        seconds, processor = elapsed(start, processor)
        tokens = len(rows.packing.tokens)
        assert rows.fingerprint  # which reads all ids again
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    result = {"rate": tokens / seconds, "seconds": seconds, "resident": resident}
    result["processor_rate"] = tokens / processor
    print(json.dumps(result | {"anonymous": anonymous()}))


def elapsed(start: float, processor: float) -> tuple[float, float]:
    """Return the seconds since both, of all threads of this process."""
    return time.perf_counter() - start, time.process_time() - processor


def anonymous() -> float:
    """Return the memory of this process beside mapped files at its end, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(x.split()[1]) / 1e3 for x in lines if x.startswith("RssAnon"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        who, folder, size, run = sys.argv[2:]
        measure(who, Path(folder), size, run)
    else:
        os.environ.pop("TOKENIZERS_PARALLELISM", None)
        main()
