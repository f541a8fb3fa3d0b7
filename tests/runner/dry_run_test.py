"""A dry run says what a run would be, and trains nothing."""

import pydoc_data.topics

import pytest

from runner import main, runtime


@pytest.fixture
def flags(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(pydoc_data.topics.topics["assignment"])
    config = tmp_path / "tiny.py"
    config.write_text(
        "import functools\n"
        "import optax\n"
        "from fiddle.experimental.auto_config import auto_config\n"
        "import losses, models\n"
        "from losses import LossTerm\n"
        "from runner import Experiment, data\n"
        "@auto_config\n"
        "def config() -> Experiment:\n"
        f"    documents = data.TextFiles(files=[{str(text)!r}])\n"
        "    return Experiment(\n"
        "        student=functools.partial(\n"
        "            models.Transformer, vocab_size=300, dim=16, num_layers=1,\n"
        "            num_heads=2,\n"
        "            mlp=functools.partial(\n"
        "                models.MoE, num_experts=2, hidden_dim=16)),\n"
        "        losses=[\n"
        "            LossTerm(name='ce', loss=losses.CrossEntropy()),\n"
        "            LossTerm(name='balance', loss=losses.LoadBalance())],\n"
        "        train_data=data.TokenizedText(\n"
        "            documents=documents, sequence_length=8,\n"
        "            tokenizer=data.ByteBpe(documents=documents, vocab_size=300)),\n"
        "        optimizer=optax.adamw(1e-3), num_steps=10, batch_size=16)\n"
    )
    return [
        "runner",
        f"--fdl_config={config}",
        f"--gin.input.cache={tmp_path / 'cache'}",
        "--gin.mesh.fsdp=2",
        "--dry_run",
    ]


def test_it_prints_devices_batch_parameters_shardings_flops_and_memory(flags, capsys):
    assert main.main([*flags, "--gin.step.microbatches=2"]) == 0
    out = capsys.readouterr().out
    assert "8 x cpu, mesh data=4 fsdp=2 tensor=1 expert=1" in out
    assert "16 sequences x 8 = 128 tokens per step" in out
    assert "statistics of the global batch are wanted first" in out
    row = next(line for line in out.splitlines() if "student/output" in line)
    assert row.split()[1:] == ["[300", "16]", "float32", "4,800", "-,", "fsdp", "9,600"]
    assert "in matmuls per step" in out
    assert "temporaries" in out


def test_what_does_not_fit_is_told_in_a_line(flags, capsys):
    assert main.main([*flags, "--fdl.batch_size=12"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("runner: batch_size: 12 does not divide into 1 microbatches")
    assert err.rstrip().endswith("the nearest that does is 16")


def test_a_mesh_that_does_not_fit_is_told_in_a_line(flags, capsys):
    assert main.main([*flags, "--gin.mesh.tensor=3"]) == 2
    assert "does not multiply to the 8 devices here" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    import gin

    gin.clear_config()
    assert runtime.current() == runtime.Runtime()
