"""The embedded corpus as one call in a config."""

from fiddle.experimental.auto_config import auto_config

from runner.data.python_library import PythonLibrary
from runner.data.source import TokenizedText
from runner.data.tokenizer import ByteBpe


@auto_config
def python_library_text(
    *, split: str = "train", sequence_length: int = 256, vocab_size: int = 4096
) -> TokenizedText:
    """The Python standard library, with a byte-level BPE of its training split.

    In a config this becomes its nodes, so that every field can be overridden, as in
    `--fdl.train_data.sequence_length=128`; one with held-out data writes the nodes out
    and shares that of the tokenizer.
    """
    return TokenizedText(
        documents=PythonLibrary(split=split),
        tokenizer=ByteBpe(
            documents=PythonLibrary(split="train"), vocab_size=vocab_size
        ),
        sequence_length=sequence_length,
    )
