"""Every kind of file that is read: an example of it, and its reader.

python -m tests.runner.files.kinds [KIND]     100 edits of each, counted
"""

import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from runner import report
from runner.checkpoint import manifest as checkpoints
from runner.cli import gin_flags
from runner.cli.flags import Flag
from runner.data import JsonLines
from runner.data.text import record_files
from runner.data.text.gguf_tokenizer import GGUFTokenizer
from runner.data.text.tokenizer import TokenizerFile
from runner.errors import UserError
from runner.exchange import main as records_main
from runner.graph import build, to_json
from runner.records import manifest as records
from runner.records import shards
from runner.report import comparison, page, results, run
from runner.sweeps import frozen, outcome, table, trust
from runner.weights.published import PublishedWeights
from runner.weights.run import RunWeights
from runner.workdir import opening
from tests.models.pretrained import inputs
from tests.models.pretrained.tables import FIXTURES
from tests.runner.files import data_kinds, orbax_files
from tests.runner.files.kind import Kind, count
from tests.runner.records.sets import VOCABULARY, byte_vocabulary

SAVED = Path(__file__).parents[2] / "compatibility" / "saved_4c223cb"


def _report(folder: Path) -> None:
    loaded = run.load(folder)
    results.text(results.rows(loaded), notes=results.notes(loaded), unit=loaded.unit)
    page.html(loaded, [])
    comparison.text(comparison.entries([str(folder)] * 2))


def _continue(folder: Path) -> None:
    config = opening.saved_config(folder)
    cfg = to_json.load(str(config))
    with opening.open_workdir(folder, cfg, ["runner"]) as opened:
        opened.record_data(json.loads((SAVED / "teacher" / "data.json").read_text()))
        opened.record_start()


def _graph(folder: Path) -> None:
    cfg = to_json.load(str(folder / "config.json"))
    with contextlib.chdir(SAVED):
        build.job(cfg)


def _sweep(folder: Path) -> None:
    sweep = frozen.load(folder)
    trust.flags(sweep)
    outcomes = outcome.read(sweep)
    table.text(sweep, outcomes)
    table.markdown(sweep, outcomes)
    json.dumps(table.results(sweep, outcomes))


def _records(folder: Path) -> None:
    for command in ("inspect", "verify"):
        assert records_main.main([command, str(folder)]) in (0, 2)


def _sidecar(folder: Path) -> None:
    layout = records.read_manifest(folder / "records").layout
    shards.finished_shards(folder / "records", 1, layout, digest=True)


def _checkpoint(folder: Path) -> None:
    (directory,) = (folder / "checkpoints").iterdir()
    with contextlib.suppress(checkpoints.CorruptCheckpoint):
        checkpoints.check(directory, step=int(directory.name))


def _gin(folder: Path) -> None:
    gin_flags.apply([Flag("gin_file", str(folder / "runtime.gin"))])


def _model(folder: Path) -> None:
    opened = PublishedWeights(str(folder))
    opened.digest  # noqa: B018 - reads the files
    with contextlib.suppress(ValueError):  # as `PublishedWeights.read` refuses
        opened._pretrained.arrays()


def _gguf(folder: Path) -> None:
    file = str(folder / "model.gguf")
    _model(folder / "model.gguf")
    GGUFTokenizer(file=file).load()


def _tokenizer(folder: Path) -> None:
    loaded = TokenizerFile(file=str(folder / "tokenizer.json")).load()
    loaded.decode(loaded.encode("the module"))


def _token_records(folder: Path) -> None:
    file = folder / "text.array_record"
    record_files.check_manifest(file, record_files.sha256_of(file), VOCABULARY)


def _documents(folder: Path) -> None:
    list(JsonLines(files=(str(folder / "text.jsonl"),)))


def _teacher(folder: Path) -> None:
    opened = RunWeights(str(folder))
    opened.model.keywords  # noqa: B018 - reads the graph
    with contextlib.suppress(UserError):
        opened.check_vocabulary(byte_vocabulary("x"), cache="")


def _sealed(digest: Callable[[Any], str]) -> Callable[[Any], Any]:
    """A function that gives an edited manifest its own digest again."""

    def reseal(content: Any) -> Any:
        if isinstance(content, dict) and "sha256" in content:
            with contextlib.suppress(KeyError, TypeError, RecursionError):
                content["sha256"] = digest(content["manifest"])
        return content

    return reseal


def kinds(directory: Path) -> list[Kind]:
    """Every kind; what is made for them lies in `directory`."""
    teacher = SAVED / "teacher"
    ended = _ended(directory / "ended")
    checkpoint = "checkpoints/00000004/manifest.json"
    listed = [
        Kind(f"report: {name}", ended, name, _report)
        for name in ("result.json", "versions.json", "data.json", "metrics.jsonl")
    ]
    listed += [
        Kind(f"report: {name}", ended, name, _report)
        for name in ("config.txt", "operative.gin", "command.txt", "parameters.txt")
    ]
    listed += [  # 20 lines of what changed, a heading and an advice
        Kind(f"run: {name}", teacher, name, _continue, lines=23)
        for name in (
            "config.txt",
            "config.json",
            "data.json",
            "versions.json",
            "command.txt",
        )
    ]
    listed += [
        Kind(f"drawn: {name}", ended, name, report.write, edits=2)
        for name in ("metrics.jsonl", "config.txt")
    ]
    listed += [
        Kind("graph", teacher, "config.json", _graph),
        Kind("checkpoint", teacher, checkpoint, _checkpoint),
        Kind(
            "checkpoint, resealed",
            teacher,
            checkpoint,
            _checkpoint,
            _sealed(checkpoints._digest_of),
        ),
        *(
            Kind(f"orbax: {name}", place, file, orbax_files.read, lines=1, slow=True)
            for name, place, file in orbax_files.examples(teacher, directory)
        ),
        Kind("teacher: data.json", teacher, "data.json", _teacher),
        Kind("teacher: tokenizer.json", teacher, "tokenizer.json", _teacher),
        Kind("records", SAVED / "records", "records/manifest.json", _records),
        Kind(
            "records, resealed",
            SAVED / "records",
            "records/manifest.json",
            _records,
            _sealed(records._digest),
        ),
        Kind(
            "records: tokenizer", SAVED / "records", "records/tokenizer.json", _records
        ),
        Kind(
            "records: sidecar",
            SAVED / "records",
            "records/records-00000-of-00001.array_record.json",
            _sidecar,
        ),
        Kind("records: recording.json", SAVED / "records", "recording.json", _report),
    ]
    sweep = _swept(directory / "sweep")
    unit = "units/00-peak_value=0.001"
    listed += [
        Kind(f"sweep: {Path(name).name}", sweep, name, _sweep)
        for name in (
            "sweep.json",
            "runtime.gin",
            f"{unit}/failure.json",
            f"{unit}/result.json",
            f"{unit}/metrics.jsonl",
            f"{unit}/config.txt",
        )
    ]
    models = directory / "models"
    folder = _model_folder(models / "smollm2")
    listed += [
        Kind(f"model: {name}", folder, name, _model)
        for name in ("config.json", "model.safetensors.index.json", "model.safetensors")
    ]
    listed += [
        Kind("model: gguf", _gguf_file(models / "gguf"), "model.gguf", _gguf),
        Kind("gin", sweep, "runtime.gin", _gin),
        Kind("tokenizer", teacher, "tokenizer.json", _tokenizer),
        Kind(
            "token records",
            _token_file(directory / "tokens"),
            "text.array_record.json",
            _token_records,
        ),
        Kind("json lines", _lines(directory / "lines"), "text.jsonl", _documents),
    ]
    return listed + data_kinds.kinds(directory / "data")


def _ended(folder: Path) -> Path:
    shutil.copytree(SAVED / "teacher", folder)
    return folder


def _swept(folder: Path) -> Path:
    shutil.copytree(SAVED / "sweep", folder)
    units = sorted((folder / "units").iterdir())
    for unit in units:
        shutil.copy(SAVED / "teacher" / "metrics.jsonl", unit)
    shutil.copy(SAVED / "teacher" / "result.json", units[0])
    (units[0] / "failure.json").write_text('{"code": 1, "said": "failed"}')
    return folder


def _model_folder(folder: Path) -> Path:
    shutil.copytree(FIXTURES / "smollm2", folder)
    (folder / "expected.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _gguf_file(folder: Path) -> Path:
    """A model with a tokenizer."""
    folder.mkdir(parents=True)
    alphabet = [*byte_vocabulary("th", "he").tokenizer.get_vocab()]

    class Writer(gguf.GGUFWriter):
        def write_header_to_file(self, *args, **kwargs):
            self.add_tokenizer_model("gpt2")
            self.add_tokenizer_pre("smollm")
            self.add_token_list(alphabet)
            self.add_token_types([3] + [1] * (len(alphabet) - 1))
            self.add_token_merges(["t h", "h e"])
            self.add_eos_token_id(0)
            super().write_header_to_file(*args, **kwargs)

    original, gguf.GGUFWriter = gguf.GGUFWriter, Writer
    try:
        file = inputs.write("llama", folder)
    finally:
        gguf.GGUFWriter = original
    file.rename(folder / "model.gguf")
    return folder


def _token_file(folder: Path) -> Path:
    folder.mkdir()
    documents = [np.array([5, 6, 7])]
    path = folder / "text.array_record"
    record_files.write_token_records(path, documents, vocabulary=VOCABULARY)
    return folder


def _lines(folder: Path) -> Path:
    folder.mkdir()
    lines = [json.dumps({"text": f"line {i}", "other": [i]}) for i in range(3)]
    (folder / "text.jsonl").write_text("\n".join(lines) + "\n")
    return folder


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for one in kinds(Path(place)):
            if one.name.startswith(tuple(sys.argv[1:]) or ""):
                refused, tracebacks = count(one, Path(place))
                total = f"{one.edits} edits, {refused} refused"
                print(f"{one.name:30}{total}, {len(tracebacks)} tracebacks", flush=True)
                for line in tracebacks:
                    print(f"  {line}")
