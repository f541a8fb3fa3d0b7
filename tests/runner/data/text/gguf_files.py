"""Cuts of published vocabularies as `.gguf` files; see tests/parity/vocabularies.py."""

import gzip
import json
from pathlib import Path

import gguf

FOLDER = Path(__file__).parent / "vocabularies"
NAMES = sorted(path.name.removesuffix(".json.gz") for path in FOLDER.iterdir())


def read(name: str) -> tuple[dict, list[tuple[str, list[int]]]]:
    """Entries of a vocabulary; texts, and their ids by the reference."""
    content = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    return content["entries"], content["rows"]


def write(folder: Path, entries: dict) -> str:
    """A file of some `tokenizer.ggml.` entries, which end documents with id 2."""
    file = folder / "vocabulary.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_eos_token_id(2)
    writer.add_tokenizer_model(entries["model"])
    if "pre" in entries:
        writer.add_tokenizer_pre(entries["pre"])
    writer.add_token_list(entries["tokens"])
    writer.add_token_types(entries["token_type"])
    if "merges" in entries:
        writer.add_token_merges(entries["merges"])
    if "scores" in entries:
        writer.add_token_scores(entries["scores"])
    for name in ("add_space_prefix", "remove_extra_whitespaces"):
        if name in entries:
            writer.add_bool(f"tokenizer.ggml.{name}", entries[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return str(file)
