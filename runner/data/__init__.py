"""Data: documents, tokenizers, packed rows, images; batches on the devices.

    source = TokenizedText(
        documents=PythonLibrary(split="train"),
        tokenizer=ByteBPE(documents=PythonLibrary(split="train"), vocab_size=4096),
        sequence_length=256,
    )
    dataset = source.load()
    with batches(dataset, batch_size=16, seed=0, start=0, ...) as stream:
        batch = next(stream)

Names are imported when they are first used; the nodes of a graph import neither jax nor
grain nor tokenizers, which wait for the first `load`.
"""

from typing import TYPE_CHECKING

from runner import lazy_names

if TYPE_CHECKING:
    from runner.data.dataset import Baseline, Dataset
    from runner.data.images.digits import Digits, Partition
    from runner.data.images.idx import IdxFolder, IdxImages
    from runner.data.images.images import Images
    from runner.data.labels import Classes, Labels
    from runner.data.pipeline import (
        Batches,
        batches,
        evaluation_batches,
        numbered_batches,
    )
    from runner.data.source import DataSource, Part
    from runner.data.text.documents import Document, Documents, JsonLines, TextFiles
    from runner.data.text.gguf_tokenizer import GGUFTokenizer
    from runner.data.text.library_text import python_library_text
    from runner.data.text.packed_text import PackedText
    from runner.data.text.planned import PlannedTokens
    from runner.data.text.python_library import PythonLibrary
    from runner.data.text.token_records import TokenRecords
    from runner.data.text.tokenized_text import TokenizedText
    from runner.data.text.tokenizer import ByteBPE, TokenizerFile, TokenizerSource
    from runner.data.text.vocabulary import Vocabulary

_HOMES = {
    "Baseline": "dataset",
    "Batches": "pipeline",
    "ByteBPE": "text.tokenizer",
    "Classes": "labels",
    "DataSource": "source",
    "Dataset": "dataset",
    "Digits": "images.digits",
    "Document": "text.documents",
    "Documents": "text.documents",
    "GGUFTokenizer": "text.gguf_tokenizer",
    "IdxFolder": "images.idx",
    "IdxImages": "images.idx",
    "Images": "images.images",
    "JsonLines": "text.documents",
    "Labels": "labels",
    "PackedText": "text.packed_text",
    "Part": "source",
    "Partition": "images.digits",
    "PlannedTokens": "text.planned",
    "PythonLibrary": "text.python_library",
    "TextFiles": "text.documents",
    "TokenRecords": "text.token_records",
    "TokenizedText": "text.tokenized_text",
    "TokenizerFile": "text.tokenizer",
    "TokenizerSource": "text.tokenizer",
    "Vocabulary": "text.vocabulary",
    "batches": "pipeline",
    "evaluation_batches": "pipeline",
    "numbered_batches": "pipeline",
    "python_library_text": "text.library_text",
}

__all__ = [
    "Baseline",
    "Batches",
    "ByteBPE",
    "Classes",
    "DataSource",
    "Dataset",
    "Digits",
    "Document",
    "Documents",
    "GGUFTokenizer",
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

__getattr__ = lazy_names.names(__name__, _HOMES)
