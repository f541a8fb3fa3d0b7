"""Addresses of object stores: one line wherever a path may stand."""

import dataclasses
import inspect

import fiddle as fdl
import pytest

import runner
from runner import data, starts, sweeps
from runner.cli import flags
from runner.data import cache
from runner.errors import UserError
from runner.exchange import main as exchange
from runner.export import main as export
from runner.files import remote
from runner.graph import build
from runner.records import manifest
from runner.report import run
from runner.sampling import main as sampling
from runner.weights import opening

ADDRESSES = ("gs://bucket/run", "s3://bucket/run", "memory://run", "abfs://a@b/run")
ADDRESS = ADDRESSES[1]

READERS = (
    lambda address: flags.parse(
        ["--fdl_config=configs/moe.py", f"--workdir={address}"]
    ),
    manifest.locate,
    run.load,
    opening.find,
    sweeps.load,
    cache.directory,
)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("read", READERS)
def test_an_address_is_refused_by_name_wherever_a_path_may_stand(
    read, address, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"lie on a file system; copy it here") as error:
        read(address)
    assert "\n" not in str(error.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "flag",
    [
        *("fdl_config", "fdl_config_file", "workdir", "diff", "fiddler", "gin_file"),
        *("gin.input.cache", "gin.compilation.cache", "fdl.teacher.records"),
    ],
)
def test_every_flag_of_a_path_names_itself(flag):
    with pytest.raises(UserError, match=rf"^--{flag}={ADDRESS}: runs, records"):
        flags.parse(["--fdl_config=configs/moe.py", f"--{flag}={ADDRESS}"])


@pytest.mark.parametrize(
    ("command", "arguments", "name"),
    [
        (export, [ADDRESS, "--to=hf"], "workdir"),
        (export, ["runs/moe", f"--to={ADDRESS}"], "--to"),
        (sampling, [ADDRESS, "--prompt=s3://a/text"], "model"),
        (sampling, ["runs/moe", f"--prompts={ADDRESS}"], "--prompts"),
        (sampling, ["runs/moe", f"--tokenizer={ADDRESS}"], "--tokenizer"),
        (exchange, ["inspect", ADDRESS], "records"),
        (exchange, ["verify", ADDRESS], "records"),
        (exchange, ["prompts", "--data=a.py", f"--to={ADDRESS}"], "--to"),
        (exchange, ["prompts", f"--data={ADDRESS}", "--to=a"], "--data"),
        (exchange, ["import", ADDRESS, "--from=trl", "--data=a", "--to=b"], "source"),
        (
            exchange,
            ["import", "a", "--from=trl", "--data=a", f"--to={ADDRESS}"],
            "--to",
        ),
        (exchange, ["export", ADDRESS, "--as=maxtext", "--to=a"], "records"),
        (exchange, ["export", "a", "--as=maxtext", f"--to={ADDRESS}"], "--to"),
    ],
)
def test_every_command_answers_in_one_line(
    command, arguments, name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f": {name}={ADDRESS}: runs, records and models lie on a file" in line
    assert not any(tmp_path.iterdir())


NODES = [
    (kind, field.name)
    for module in (runner, data, starts)
    for kind in map(module.__getattr__, module.__all__)
    if inspect.isclass(kind) and dataclasses.is_dataclass(kind)
    for field in dataclasses.fields(kind)
    if field.init and "str" in str(field.type)
]


def test_every_field_of_a_graph_that_takes_a_text_is_looked_at():
    """Workdir, records, exports, starts, data, checkpoint: before any constructor."""
    names = {f"{kind.__name__}.{field}" for kind, field in NODES}
    assert names > {
        *("OfflineTeacher.records", "OnlineTeacher.checkpoint", "Export.workdir"),
        *("Export.to", "TextFiles.files", "Parquet.files", "IdxFolder.path"),
        *("Continued.workdir", "Published.path", "Adapter.path"),
        *("TokenizerFile.file", "Sample.model", "Evaluate.models"),
    }
    for kind, field in NODES:
        others = {other.name: None for other in dataclasses.fields(kind) if other.init}
        for value in (ADDRESS, ("here", ADDRESS)):
            cfg = fdl.Config(kind, **(others | {field: value}))
            with pytest.raises(UserError, match=rf"^{field}(\[1\])?={ADDRESS}: runs"):
                build.objects(cfg)


@pytest.mark.parametrize(
    "value", ["gs", "runs/s3", "s3 is a store: s3://b c", "hf:x", "C:/runs", 5, None]
)
def test_paths_and_texts_are_none(value):
    remote.refuse("workdir", value)
