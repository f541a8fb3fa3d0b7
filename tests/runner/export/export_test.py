"""A run's student as a folder or a `.gguf` file: its bits, its tokenizer, its card."""

import dataclasses
import errno
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from math import nan
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers import pre_tokenizers as pre

import models
from models import pretrained
from models.pretrained.writing import safetensors_file, tensors
from models.quantized.grid import Grid
from runner.checkpoint import tree_paths
from runner.data import GGUFTokenizer, TokenizerFile
from runner.errors import UserError
from runner.export import main, student
from runner.export.job import Export
from runner.weights import adapters
from runner.weights.run import RunWeights
from runner.weights.tensors import StoredTensor

ROOT = Path(__file__).parents[3]
SAVED = ROOT / "tests" / "compatibility" / "saved_4c223cb"
TEXT = "def f(x):\n\treturn 12345 * x  # <|endoftext|>"


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    return tree_paths.by_path(pretrained.open_model(folder).arrays())


def changed(folder: Path, change) -> Path:
    """A copy of a run whose tokenizer cuts texts in another way."""
    copy = folder / "run"
    shutil.copytree(SAVED / "student", copy)
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    change(tokenizer)
    (copy / "tokenizer.json").write_text(tokenizer.to_str())
    return copy


def of_gpt2(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)


def test_a_folder_holds_the_bits_of_the_checkpoint(tmp_path: Path):
    weights = RunWeights(str(SAVED / "student"))
    message = Export(workdir=str(SAVED / "student"), to=str(tmp_path / "out")).write()
    assert "llama, step 4, float32" in message
    written = arrays_of(tmp_path / "out")
    stored = {path: tensor.read() for path, tensor in weights.tensors().items()}
    assert written.keys() == stored.keys()
    for path, array in stored.items():
        np.testing.assert_array_equal(written[path], array)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_experts_are_cut_out_of_an_array_of_a_checkpoint():
    whole = np.arange(24.0).reshape(2, 4, 3)
    stored = {"blocks/0/mlp/up": student.StoredArray(whole.shape, lambda: whole)}
    names = {"mlp/up": "{layer}.{expert}.up"}
    written = {x.name: x.read() for x in tensors.tensors(stored, names)}
    np.testing.assert_array_equal(written["0.1.up"], whole[1].T)


def test_the_tokenizer_is_that_of_the_data(tmp_path: Path):
    Export(workdir=str(SAVED / "student"), to=str(tmp_path / "out")).write()
    theirs, ours = (
        TokenizerFile(file=str(folder / "tokenizer.json")).load()
        for folder in (SAVED / "student", tmp_path / "out")
    )
    assert ours.encode(TEXT).tolist() == theirs.encode(TEXT).tolist()
    data = json.loads((SAVED / "student" / "data.json").read_text())
    assert ours.digest == data["train_data"]["vocabulary"]["digest"]
    config, generation, tokenizer = (
        json.loads((tmp_path / "out" / f"{name}.json").read_text())
        for name in ("config", "generation_config", "tokenizer_config")
    )
    assert config["eos_token_id"] == generation["eos_token_id"] == ours.end
    assert tokenizer["eos_token"] == tokenizer["bos_token"] == "<|endoftext|>"
    assert config["max_position_embeddings"] == tokenizer["model_max_length"] == 32


def test_the_card_says_what_the_student_learnt_from(tmp_path: Path):
    to = tmp_path / "a_model"
    Export(workdir=str(SAVED / "student"), to=str(to), dtype="bfloat16").write()
    card = (to / "README.md").read_text()
    for line in [
        "# a\\_model",
        "after step 4 of 8 of its training",
        "| teacher | `runner.OfflineTeacher`, `records`, kind `offline`, ",
        "32 rows of 32, fingerprint `8d79e2b5c329117dca1d103695affe0d` |",
        "| tokenizer | 272 tokens; texts begin with `<\\|endoftext\\|>` and end",
        "| term z\\_loss | `losses.ZLoss`, weight `0.0001` |",
        "bfloat16, rounded from float32 to nearest, ties to even",
        "Not measured after step 4.",
    ]:
        assert line in card, line
    Export(workdir=str(SAVED / "teacher"), to=str(tmp_path / "t")).write()
    card = (tmp_path / "t" / "README.md").read_text()
    assert "| teacher | none |" in card and "| start | fresh weights |" in card
    loss = json.loads((SAVED / "teacher" / "result.json").read_text())
    loss = loss["evaluations"]["held_out"]["loss"]
    assert f"| held\\_out | loss | {loss:.5g} |" in card


TEMPLATE = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"


def conversing(folder: Path) -> Path:
    """A run whose tokenizer came with a template, names and ends of turns."""
    run = changed(folder, of_gpt2)
    config = {"eos_token": "<|endoftext|>", "pad_token": "<|absent|>", "unk_token": "e"}
    (run / "tokenizer_config.json").write_text(json.dumps(config))
    (run / "chat_template.jinja").write_text(TEMPLATE)
    ends = {"eos_token_id": [7, 0, 9999]}
    (run / "generation_config.json").write_text(json.dumps(ends))
    source = {"path": "a/b/SmolLM2", "digest": "d1", "layers": [0, 2]}
    (run / "start.json").write_text(json.dumps({"source": source}))
    return run


def test_what_conversations_need_goes_out_with_the_tokenizer(tmp_path: Path):
    run, to = conversing(tmp_path), tmp_path / "out"
    Export(workdir=str(run), to=str(to)).write()
    assert (to / "chat_template.jinja").read_text() == TEMPLATE
    generation, tokenizer, config = (
        json.loads((to / f"{name}.json").read_text())
        for name in ("generation_config", "tokenizer_config", "config")
    )
    # The end of the data, and those at which the published model stops.
    assert generation["eos_token_id"] == [0, 7] and config["eos_token_id"] == 0
    assert not generation["_from_model_config"]
    assert (tokenizer["eos_token"], tokenizer["unk_token"]) == ("<|endoftext|>", "e")
    assert "pad_token" not in tokenizer  # which would be given an id of its own
    card = (to / "README.md").read_text()
    assert "| start | `SmolLM2`, digest `d1`, layers `[0, 2]` |" in card
    assert "with a chat template |" in card
    # And comes back, from a file for llama.cpp too.
    Export(workdir=str(run), to=str(tmp_path / "g"), format="gguf").write()
    for source in (
        TokenizerFile(file=str(to / "tokenizer.json")),
        GGUFTokenizer(file=str(tmp_path / "g" / "model.gguf")),
    ):
        loaded = source.load()
        assert loaded.chat.templates == {"default": TEMPLATE}
        assert set(loaded.stops) == {0, 7} and loaded.end == 0


def test_names_in_a_card_are_no_markup(tmp_path: Path):
    run, bad = tmp_path / "run", "<script>alert(1)</script> | [x](y) `` `"
    shutil.copytree(SAVED / "student", run)
    data = json.loads((run / "data.json").read_text())
    data["teacher"] = {bad: bad}
    data["train_data"] |= {"fingerprint": bad, "rows": bad}
    (run / "data.json").write_text(json.dumps(data))
    config = (run / "config.txt").read_text()
    config = config.replace("losses.ForwardKl", bad).replace("runner.data.Part", bad)
    (run / "config.txt").write_text(config)
    Export(workdir=str(run), to=str(tmp_path / "out")).write()
    lines = (tmp_path / "out" / "README.md").read_text().splitlines()
    hostile = [line for line in lines if "script" in line]
    assert len(hostile) == 3
    for line in hostile:
        # Escaped characters and code spans aside, it holds its cells alone.
        plain = re.sub(r"`[^`]*`", "", re.sub(r"\\.", "", line))
        assert not re.search(r"[<\[`]", plain), line
        assert plain.count("|") == 3, line


def test_a_gguf_file_holds_the_bits_and_the_tokenizer(tmp_path: Path):
    run, to = changed(tmp_path, of_gpt2), tmp_path / "out"
    message = Export(workdir=str(run), to=str(to), format="gguf").write()
    assert message.endswith(f"load: llama-cli --model {to / 'model.gguf'}")
    written = pretrained.open_model(to / "model.gguf")
    folder = tmp_path / "folder"
    Export(workdir=str(run), to=str(folder)).write()
    arrays = tree_paths.by_path(written.arrays())
    for path, array in arrays_of(folder).items():
        np.testing.assert_array_equal(arrays[path], array)
    assert written.context == 32
    ours = GGUFTokenizer(file=str(to / "model.gguf")).load()
    theirs = TokenizerFile(file=str(run / "tokenizer.json")).load()
    assert ours.encode(TEXT).tolist() == theirs.encode(TEXT).tolist()
    assert (ours.begin, ours.end) == (theirs.begin, theirs.end)
    assert ours.identity == theirs.identity


def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no name for; its names here: .*gpt-2"):
        Export(
            workdir=str(SAVED / "student"), to=str(tmp_path / "out"), format="gguf"
        ).write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--step=3"], "has no checkpoint of step 3: 4"),
        (["--best"], "has no best checkpoint"),
        (["--format=onnx"], "format must be one of hf, gguf, peft, got 'onnx'"),
        (["--dtype=bfloat"], "got 'bfloat'; did you mean 'bfloat16'?"),
    ],
)
def test_what_is_not_there_is_named(flags, message, tmp_path: Path, capsys):
    to = tmp_path / "out"
    assert main.main([str(SAVED / "student"), f"--to={to}", *flags]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (["x"], "the following arguments are required: --to"),
        (["x", "--to=y", "--form=hf"], "unrecognized arguments: --form=hf"),
    ],
)
def test_a_wrong_line_is_refused_in_one(line, complaint, capsys):
    assert main.main(line) == 2
    expected = f"runner-export: {complaint} (--help lists the options)\n"
    assert capsys.readouterr().err == expected


def test_a_directory_that_is_there_is_not_touched(tmp_path: Path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main.main([str(SAVED / "student"), f"--to={tmp_path}"]) == 2
    assert f"to: {tmp_path} is there already" in capsys.readouterr().err
    assert main.main([str(tmp_path), f"--to={tmp_path / 'out'}"]) == 2
    assert f"workdir: {tmp_path} has no checkpoints" in capsys.readouterr().err
    assert main.main([str(SAVED / "studnt"), f"--to={tmp_path / 'out'}"]) == 2
    missing = f"no such directory: {SAVED / 'studnt'}; did you mean 'student'?"
    assert f"workdir: {missing}" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("format", ["hf", "gguf"])
def test_a_parameter_that_is_not_finite_is_named(format, tmp_path: Path, monkeypatch):
    run, whole = changed(tmp_path, of_gpt2), RunWeights.tensors

    def with_nan(weights):
        tensors = dict(whole(weights))
        norm = tensors["norm/scale"]
        tensors["norm/scale"] = dataclasses.replace(
            norm, read=lambda: norm.read() * nan
        )
        return tensors

    monkeypatch.setattr(RunWeights, "tensors", with_nan)
    to = tmp_path / "models" / "out"
    with pytest.raises(UserError, match=r"out is not written: .*norm.* is not finite"):
        Export(workdir=str(run), to=str(to), format=format).write()
    assert list(to.parent.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch):
    def full(*arguments, **options):
        (tmp_path / "half").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(safetensors_file, "write", full)
    to = tmp_path / "models" / "out"
    with pytest.raises(UserError, match="out cannot be written: No space left"):
        Export(workdir=str(SAVED / "student"), to=str(to)).write()
    assert (tmp_path / "half").exists()
    assert list(to.parent.iterdir()) == []


KILLED = """
import os, signal, sys
from models.pretrained.writing import rounding, safetensors_file
from runner.export import main
rounded, count = safetensors_file.rounded, [0]
def killed(*arguments):
    count[0] += 1
    if count[0] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return rounded(*arguments)
safetensors_file.rounded = killed
main.main(sys.argv[1:])
"""


@pytest.mark.parametrize("inside", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_kernels_are_written_as_the_model_reads_them(inside: bool, monkeypatch):
    """Also those that adapters are added to: before these."""
    run = str(SAVED / "student")
    plain = RunWeights(run)
    latent = plain.tensors()
    model = functools.partial(models.Quantized, model=plain.model, targets="*/up")
    if inside:
        model = functools.partial(models.LoRA, model=model, rank=1, targets="*/up")
    monkeypatch.setattr(RunWeights, "model", model)
    path = "blocks/0/mlp/up"
    a, b = np.ones((latent[path].shape[0], 1)), np.ones((1, latent[path].shape[1]))
    if inside:
        added = {
            f"blocks/0/mlp/adapters/up/{name}": StoredTensor(
                x.shape, np.dtype(np.float32), lambda x=x: np.float32(x)
            )
            for name, x in (("a", a), ("b", b))
        }
        monkeypatch.setattr(RunWeights, "tensors", lambda _: {**latent, **added})
    merged = adapters.merged(RunWeights(run))
    assert merged.model.func is models.Transformer
    expected = Grid("int8", None, "float32", 1, 1).nearest(latent[path].read())
    expected = np.asarray(expected) + inside * 16.0  # alpha / rank
    np.testing.assert_array_equal(merged.tensors[path].read(), expected)
    assert np.any(merged.tensors[path].read() != latent[path].read())
    other = "blocks/0/mlp/down"
    np.testing.assert_array_equal(merged.tensors[other].read(), latent[other].read())
    as_kept = adapters.merged(RunWeights(run), as_read=False).tensors[path].read()
    np.testing.assert_array_equal(as_kept, latent[path].read() + inside * 16.0)


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_nothing_under_the_name(tmp_path: Path):
    to = tmp_path / "out"
    arguments = [str(SAVED / "student"), f"--to={to}"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT)
    assert killed.returncode == -9
    assert [file.name[:9] for file in tmp_path.iterdir()] == [".tmp-out-"]
    assert main.main(arguments) == 0
    assert len(arrays_of(to)) > 5
