"""Files of data that may come from others: tables, columns, chats, scores, adapters."""

import contextlib
import functools
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet
from safetensors.numpy import save_file

from models.pretrained import peft_adapter
from runner import data
from runner.data.images import idx
from runner.exchange.importing import Choices, import_records
from tests.runner.data.own_rows import Holder, own
from tests.runner.exchange import producers, teacher
from tests.runner.files.kind import Kind
from tests.runner.records.sets import byte_vocabulary

_ROLES = """{% for m in messages %}{{ m.role }}{% if m.role == "assistant" %}
{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}"""
_TEXTS = pyarrow.table({"text": ["hello world", "b" * 50, "c"]})


def kinds(directory: Path) -> list[Kind]:
    """Every kind; what is made for them lies in `directory`."""
    directory.mkdir()
    return [
        *_tables(directory / "tables"),
        *_columns(directory / "columns"),
        *_images(directory / "images"),
        *_chats(directory / "chats"),
        *_adapter(directory / "adapter"),
        *_scores(directory / "scores"),
    ]


def _tables(folder: Path) -> list[Kind]:
    split = folder / "train"
    split.mkdir(parents=True)
    parquet.write_table(_TEXTS, folder / "a.parquet")
    with pyarrow.ipc.new_stream(str(split / "a.arrow"), _TEXTS.schema) as writer:
        writer.write_table(_TEXTS)
    state = {"_data_files": [{"filename": "a.arrow"}]}
    (split / "state.json").write_text(json.dumps(state))
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    lines = b"".join(b'{"text": "line %d"}\n' % i for i in range(4))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines))

    def saved(copy: Path) -> None:
        list(data.HuggingFaceDataset(folder=str(copy)))

    def rows(copy: Path) -> None:
        list(data.Parquet(files=(str(copy / "a.parquet"),)))

    def compressed(copy: Path) -> None:
        list(data.JsonLines(files=(str(copy / "a.jsonl.gz"),)))

    return [
        *(
            Kind(f"datasets: {name}", folder, name, saved)
            for name in ("dataset_dict.json", "train/state.json", "train/a.arrow")
        ),
        Kind("parquet", folder, "a.parquet", rows),
        Kind("compressed lines", folder, "a.jsonl.gz", compressed),
    ]


def _columns(folder: Path) -> list[Kind]:
    folder.mkdir()
    rows = own()
    scores = np.arange(len(rows), dtype=np.float32) * 1.7
    data.write_columns(folder / "a.npz", {"score": scores}, dataset=rows)
    np.savez_compressed(folder / "b.npz", score=scores)
    (folder / "c.jsonl").write_text("".join(f'{{"score": {x}}}\n' for x in scores))

    def read(name: str, copy: Path) -> None:
        file = str(copy / name)
        data.Columns(data=Holder(rows), file=file, fields=("score",)).load()

    return [
        Kind(f"columns: {name}", folder, name, functools.partial(read, name))
        for name in ("a.npz", "b.npz", "c.jsonl")
    ] + [
        Kind(
            "columns: manifest", folder, "a.npz.json", functools.partial(read, "a.npz")
        )
    ]


def _images(folder: Path) -> list[Kind]:
    folder.mkdir()
    content = bytes([0, 0, 8, 3]) + np.array([3, 2, 2], ">u4").tobytes() + bytes(12)
    (folder / "a").write_bytes(content)
    (folder / "a.gz").write_bytes(gzip.compress(content))

    def read(name: str, copy: Path) -> None:
        idx.read(copy / name, axes=3)

    return [
        Kind(f"idx: {name}", folder, name, functools.partial(read, name))
        for name in ("a", "a.gz")
    ]


def _chats(folder: Path) -> list[Kind]:
    folder.mkdir()
    byte_vocabulary("th").tokenizer.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "<end>", "bos_token": {"content": "t"}}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    config = {"chat_template": _ROLES, "eos_token": "<end>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(_ROLES)
    said = [{"role": role, "content": "the"} for role in ("user", "assistant")]
    (folder / "chats.jsonl").write_text(json.dumps({"messages": said}) + "\n")

    def read(copy: Path) -> None:
        with tempfile.TemporaryDirectory() as cache:
            data.Chat(
                records=data.JsonLines(files=(str(copy / "chats.jsonl"),)),
                tokenizer=data.TokenizerFile(file=str(copy / "tokenizer.json")),
                sequence_length=64,
            ).load(cache=cache)

    return [
        Kind(f"chat: {name}", folder, name, read)
        for name in (
            *("tokenizer_config.json", "special_tokens_map.json"),
            *("chat_template.jinja", "chats.jsonl"),
        )
    ]


def _adapter(folder: Path) -> list[Kind]:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    pair = {name.format(x): np.ones(n, np.float32) for x, n in _SHAPES.items()}
    save_file(pair, folder / "adapter_model.safetensors")

    def read(copy: Path) -> None:
        with contextlib.suppress(ValueError):  # as `PublishedWeights` refuses
            peft_adapter.read(copy)

    return [
        Kind(f"adapter: {file}", folder, file, read)
        for file in ("adapter_config.json", "adapter_model.safetensors")
    ]


_SHAPES = {"A": (2, 4), "B": (4, 2)}


def _scores(folder: Path) -> list[Kind]:
    """Files of every producer that scores are imported from."""
    listed = []
    rows = teacher.dataset()

    def read(producer: str, copy: Path) -> None:
        choices = Choices(temperature=1.0) if producer == "axolotl" else Choices()
        with tempfile.TemporaryDirectory() as to:
            source = copy / "scores"
            import_records(producer, source, Path(to) / "records", rows, choices)

    for name, write in producers.WRITERS.items():
        place = folder / name.replace(" ", "-")
        place.mkdir(parents=True)
        write(place / "scores")
        reader = functools.partial(read, name.split()[0])
        for file in sorted(x for x in place.rglob("*") if x.is_file()):
            at = str(file.relative_to(place))
            listed.append(Kind(f"scores: {name} {at}", place, at, reader, slow=True))
    return listed
