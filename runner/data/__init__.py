"""Data: documents, tokenizers, packed rows, images; batches on the devices.

    source = TokenizedText(
        documents=PythonLibrary(split="train"),
        tokenizer=ByteBpe(documents=PythonLibrary(split="train"), vocab_size=4096),
        sequence_length=256,
    )
    dataset = source.load()
    with batches(dataset, batch_size=16, seed=0, start=0, ...) as stream:
        batch = next(stream)

Names are imported when they are first used; the nodes of a graph import neither jax nor
grain nor tokenizers, which wait for the first `load`.
"""

from typing import TYPE_CHECKING

from runner import lazily

if TYPE_CHECKING:
    from runner.data.baseline import Baseline
    from runner.data.dataset import Dataset
    from runner.data.digits import Digits, Partition
    from runner.data.documents import Document, Documents, JsonLines, TextFiles
    from runner.data.gguf_tokenizer import GgufTokenizer
    from runner.data.idx import IdxFolder, IdxImages
    from runner.data.images import Images
    from runner.data.labels import Classes, Labels
    from runner.data.library_text import python_library_text
    from runner.data.packed_text import PackedText
    from runner.data.pipeline import (
        Batches,
        batches,
        evaluation_batches,
        numbered_batches,
    )
    from runner.data.planned import PlannedTokens
    from runner.data.python_library import PythonLibrary
    from runner.data.source import DataSource, Part, TokenizedText
    from runner.data.token_records import TokenRecords
    from runner.data.tokenizer import ByteBpe, TokenizerFile, TokenizerSource
    from runner.data.vocabulary import Vocabulary

_HOMES = {
    "Baseline": "baseline",
    "Batches": "pipeline",
    "ByteBpe": "tokenizer",
    "Classes": "labels",
    "DataSource": "source",
    "Dataset": "dataset",
    "Digits": "digits",
    "Document": "documents",
    "Documents": "documents",
    "GgufTokenizer": "gguf_tokenizer",
    "IdxFolder": "idx",
    "IdxImages": "idx",
    "Images": "images",
    "JsonLines": "documents",
    "Labels": "labels",
    "PackedText": "packed_text",
    "Part": "source",
    "Partition": "digits",
    "PlannedTokens": "planned",
    "PythonLibrary": "python_library",
    "TextFiles": "documents",
    "TokenRecords": "token_records",
    "TokenizedText": "source",
    "TokenizerFile": "tokenizer",
    "TokenizerSource": "tokenizer",
    "Vocabulary": "vocabulary",
    "batches": "pipeline",
    "evaluation_batches": "pipeline",
    "numbered_batches": "pipeline",
    "python_library_text": "library_text",
}

__all__ = [
    "Baseline",
    "Batches",
    "ByteBpe",
    "Classes",
    "DataSource",
    "Dataset",
    "Digits",
    "Document",
    "Documents",
    "GgufTokenizer",
    "IdxFolder",
    "IdxImages",
    "Images",
    "JsonLines",
    "Labels",
    "PackedText",
    "Part",
    "Partition",
    "PlannedTokens",
    "PythonLibrary",
    "TextFiles",
    "TokenRecords",
    "TokenizedText",
    "TokenizerFile",
    "TokenizerSource",
    "Vocabulary",
    "batches",
    "evaluation_batches",
    "numbered_batches",
    "python_library_text",
]

__getattr__ = lazily.names(__name__, _HOMES)
