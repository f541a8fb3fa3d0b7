"""A few documents, tokenised the same way in every test."""

import pytest

from runner.data import ByteBPE, TextFiles, TokenizedText

TEXTS = {
    "a.txt": "the cat sat on the mat, the dog sat on the log\n" * 8,
    "b.txt": "naïve café — 東京 🙂\r\n\ttabs and <|endoftext|> in the text\n" * 5,
    "c.txt": "def area(r):\n    return 3.14159 * r**2\n\n\nprint(area(10))\n" * 6,
    "d.txt": "x",
    "e.txt": "",
}


@pytest.fixture
def folder(tmp_path):
    """A directory with those files."""
    path = tmp_path / "texts"
    path.mkdir()
    for name, text in TEXTS.items():
        (path / name).write_bytes(text.encode())
    return path


@pytest.fixture
def source(folder):
    """Those files, with a tokenizer trained on them."""
    documents = TextFiles(files=[str(folder)])
    tokenizer = ByteBPE(documents=documents, vocab_size=300)
    return TokenizedText(documents=documents, tokenizer=tokenizer, sequence_length=16)


@pytest.fixture
def cache(tmp_path):
    """A directory that holds nothing yet."""
    return str(tmp_path / "cache")
