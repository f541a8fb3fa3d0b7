"""Data: documents, tokenizers, packed rows, images, series, and batches on the devices.

    source = TokenizedText(
        documents=PythonLibrary(split="train"),
        tokenizer=ByteBPE(documents=PythonLibrary(split="train"), vocab_size=4096),
        sequence_length=256,
    )
    dataset = source.load()
    with batches(dataset, batch_size=16, seed=0, start=0, ...) as stream:
        batch = next(stream)

Names are imported on first use. Graph nodes import neither jax nor grain nor
tokenizers, which wait for the first `load`.
"""

from runner import lazy_names

_HOMES = {
    "ArrayRecords": "documents.array_records",
    "Baseline": "dataset",
    "Batches": "pipeline",
    "ByteBPE": "text.tokenizer",
    "Captions": "images.captions",
    "Channels": "labels",
    "Chat": "chat.chat",
    "ChatPairRows": "preference.chat_pair_rows",
    "ChatPairs": "preference.chat_pairs",
    "ChatRows": "chat.chat_rows",
    "Classes": "labels",
    "Column": "dataset",
    "Columns": "columns",
    "Continuations": "preference.examples",
    "DataSource": "source",
    "Dataset": "dataset",
    "Digits": "images.digits",
    "Document": "documents.document",
    "Documents": "documents.document",
    "Example": "preference.examples",
    "Examples": "preference.examples",
    "GGUFTokenizer": "text.gguf_tokenizer",
    "HiddenNumbers": "series.hidden",
    "HuggingFaceDataset": "documents.tables",
    "IdxFolder": "images.idx",
    "IdxImages": "images.idx",
    "Images": "images.images",
    "Interactions": "interactions.sources",
    "JsonLines": "documents.json_lines",
    "JudgedCompletions": "preference.sources",
    "JudgedRecords": "preference.examples",
    "Labels": "labels",
    "MegatronTokens": "megatron.tokens",
    "MixedRows": "mixture",
    "Mixture": "mixture",
    "OnPolicy": "text.on_policy",
    "Oscillations": "series.sources",
    "PackedText": "text.packed_text",
    "Parquet": "documents.tables",
    "PairRecords": "preference.examples",
    "Part": "source",
    "Partition": "images.digits",
    "PlannedTokens": "text.planned",
    "PreferencePairs": "preference.sources",
    "PromptedRows": "preference.prompted_rows",
    "PythonLibrary": "text.python_library",
    "PythonQuestions": "chat.python_questions",
    "Ramp": "draws",
    "Record": "documents.records",
    "Records": "documents.records",
    "Series": "series.series",
    "SeriesFile": "series.sources",
    "Split": "documents.split",
    "Stage": "draws",
    "SyntheticInteractions": "interactions.sources",
    "TextFiles": "documents.text_files",
    "TokenRecords": "text.token_records",
    "TokenizedText": "text.tokenized_text",
    "TokenizerFile": "text.tokenizer",
    "TokenizerSource": "text.tokenizer",
    "UsedTokens": "text.cut.used_tokens",
    "Vocabulary": "text.vocabulary",
    "batches": "pipeline",
    "evaluation_batches": "pipeline",
    "numbered_batches": "pipeline",
    "python_library_rows": "text.library_text",
    "python_library_text": "text.library_text",
    "write_columns": "columns",
}
_RENAMED = {
    "ByteBpe": "ByteBPE",
    "GgufTokenizer": "GGUFTokenizer",
}

__getattr__, __all__ = lazy_names.attach(__name__, _HOMES, _RENAMED)
