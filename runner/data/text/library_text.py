"""The embedded corpus as one call in a config."""

from fiddle.experimental.auto_config import auto_config

from runner.data.text.python_library import PythonLibrary
from runner.data.text.tokenized_text import TokenizedText
from runner.data.text.tokenizer import ByteBPE


@auto_config
def python_library_text(
    *, sequence_length: int = 256, vocab_size: int = 4096
) -> tuple[TokenizedText, TokenizedText]:
    """The Python standard library, to train on and held out.

    Both are read by one byte-level BPE, trained on the first. In a config this becomes
    its nodes, so that every field can be overridden; `--fdl.train_data.tokenizer...`
    reaches both, for the tokenizer is one node.
    """
    tokenizer = ByteBPE(documents=PythonLibrary(split="train"), vocab_size=vocab_size)
    return (
        TokenizedText(
            documents=PythonLibrary(split="train"),
            tokenizer=tokenizer,
            sequence_length=sequence_length,
        ),
        TokenizedText(
            documents=PythonLibrary(split="held_out"),
            tokenizer=tokenizer,
            sequence_length=sequence_length,
        ),
    )
