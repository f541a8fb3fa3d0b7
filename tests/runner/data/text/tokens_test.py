import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from runner.data.documents import parts
from runner.data.documents.document import Document, digest
from runner.data.text import tokens
from runner.errors import UserError

DOCUMENTS = [Document(f"{i}", chr(97 + i) * (10 * i)) for i in range(12)]


def encode(batch):
    for document in batch:
        yield np.frombuffer(document.text.encode(), np.uint8).astype(np.uint32), 7


def fetch(path, *, documents=DOCUMENTS, encode=encode, expected=None):
    in_parts = parts.in_parts(
        documents,
        documents=lambda one: [one],
        encode=encode,
        expected=expected or digest(documents),
    )
    return tokens.fetch_in_parts(path, in_parts, vocab_size=300, total=660)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 100)


def test_parts_make_the_file_of_one_piece(tmp_path, small_parts):
    ids = fetch(tmp_path / "tokens" / "a")
    tokens.fetch(tmp_path / "tokens" / "b", encode(DOCUMENTS), vocab_size=300)
    assert (tmp_path / "tokens" / "a").read_bytes() == (
        tmp_path / "tokens" / "b"
    ).read_bytes()
    assert sorted(p.name for p in (tmp_path / "tokens").iterdir()) == ["a", "b"]
    assert ids.offsets.tolist() == np.cumsum([0, *range(10, 120, 10)]).tolist()
    assert ids.document_bytes.tolist() == [7] * 11  # the empty one is left out


def test_what_was_stopped_goes_on_at_its_part(tmp_path, small_parts):
    calls = []

    def counted(batch):
        calls.append([document.name for document in batch])
        if len(calls) == 3:
            raise KeyboardInterrupt
        yield from encode(batch)

    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "tokens" / "a", encode=counted)
    first, second, third = calls
    folder = tmp_path / "tokens" / "a.parts"
    damaged = sorted(folder.glob("*.tokens"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    fetch(tmp_path / "tokens" / "a", encode=counted)
    # The damaged part, the one that was stopped, and those after it.
    assert calls[3] in (first, second) and calls[4] == third
    assert sum(map(len, calls[4:])) + len(first) + len(second) == len(DOCUMENTS)
    assert not folder.exists()
    tokens.fetch(tmp_path / "tokens" / "b", encode(DOCUMENTS), vocab_size=300)
    assert (tmp_path / "tokens" / "a").read_bytes() == (
        tmp_path / "tokens" / "b"
    ).read_bytes()


def test_documents_that_change_meanwhile_are_refused(tmp_path, small_parts):
    with pytest.raises(UserError, match="changed while they were read"):
        fetch(tmp_path / "tokens" / "a", expected=digest(DOCUMENTS[1:]))
    assert not (tmp_path / "tokens" / "a").exists()


TOKENISE = """
import sys
from pathlib import Path
from runner.data import ByteBPE, JsonLines, TextFiles, TokenizedText
from runner.data.documents import parts
parts.PART_BYTES = 200_000
folder = Path(sys.argv[1])
tokenizer = ByteBPE(TextFiles([str(folder / "small.txt")]), vocab_size=260)
source = TokenizedText(JsonLines([str(folder / "texts.jsonl")]), tokenizer)
print(source.load(cache=sys.argv[2]).fingerprint)
"""


@pytest.mark.slow
def test_a_kill_costs_one_part_and_two_processes_share_the_work(tmp_path):
    (tmp_path / "small.txt").write_text("the cat sat on the mat, that was flat " * 9)
    with (tmp_path / "texts.jsonl").open("w") as file:
        for number in range(6000):
            file.write(f'{{"text": "{number} {"the cat sat on the mat " * 40}"}}\n')

    def start(cache):
        command = [sys.executable, "-c", TOKENISE, str(tmp_path), str(tmp_path / cache)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def finished_parts():
        parts = {}
        with contextlib.suppress(FileNotFoundError):  # they are removed at the end
            for path in tmp_path.glob("killed/tokens/*/*.tokens"):
                parts[path] = path.stat().st_mtime_ns
        return parts

    whole = start("whole").communicate()[0]
    killed = start("killed")
    while len(before := finished_parts()) < 5:
        time.sleep(0.01)
        assert killed.poll() is None
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    before = finished_parts()

    both = [start("killed"), start("killed")]
    later = set()
    while any(process.poll() is None for process in both):
        later |= finished_parts().items()
        time.sleep(0.01)
    assert {process.communicate()[0] for process in both} == {whole} != {""}
    assert before.items() <= later and len(dict(later)) == len(later) > len(before)
    assert not list(tmp_path.glob("killed/tokens/*.parts"))
    [kept] = tmp_path.glob("killed/tokens/*.tokens")
    [other] = tmp_path.glob("whole/tokens/*.tokens")
    assert kept.read_bytes() == other.read_bytes()
