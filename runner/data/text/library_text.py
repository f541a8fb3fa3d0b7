"""The Python standard library as training and held-out data, for configs."""

from fiddle.experimental.auto_config import auto_config

from runner.data.source import Part
from runner.data.text.python_library import PythonLibrary
from runner.data.text.tokenized_text import TokenizedText
from runner.data.text.tokenizer import ByteBPE, TokenizerSource


@auto_config
def python_library_text(
    *, sequence_length: int = 256, vocab_size: int = 4096
) -> tuple[TokenizedText, TokenizedText]:
    """Return the Python standard library as training and held-out data.

    Both are tokenised by one byte-level BPE, trained on the training data. In a config
    this call becomes its nodes, so that every field can be overridden; the tokenizer is
    one node, so that `--fdl.train_data.tokenizer...` reaches both.

    Args:
      sequence_length: Positions in a row.
      vocab_size: Ids of the tokenizer.
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


@auto_config
def python_library_rows(
    *,
    split: str,
    num_rows: int,
    tokenizer: TokenizerSource,
    sequence_length: int = 128,
) -> Part:
    """Return the first rows of the Python standard library in another's tokens.

    Args:
      split: `"train"` or `"held_out"`.
      num_rows: How many.
      tokenizer: Of a published model, say.
      sequence_length: Positions in a row.
    """
    return Part(
        data=TokenizedText(
            documents=PythonLibrary(split=split),
            tokenizer=tokenizer,
            sequence_length=sequence_length,
        ),
        num_rows=num_rows,
    )
