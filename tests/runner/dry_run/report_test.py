"""A dry run says what a run would be, and trains nothing."""

import pydoc_data.topics
from pathlib import Path

import jax
import pytest

from runner import main, runtime
from runner.machine import topology


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
        "            tokenizer=data.ByteBPE(documents=documents, vocab_size=300)),\n"
        "        optimizer=optax.adamw(1e-3), num_steps=10, batch_size=16)\n"
    )
    return [
        "runner",
        f"--fdl_config={config}",
        f"--gin.input.cache={tmp_path / 'cache'}",
        "--gin.mesh.fsdp=2",
        "--dry_run",
    ]


def test_it_prints_devices_batch_parameters_flops_memory_and_traffic(flags, capsys):
    assert main.main([*flags, "--gin.step.microbatches=2"]) == 0
    out = capsys.readouterr().out
    assert "8 x cpu, mesh data=4 fsdp=2 tensor=1 expert=1" in out
    assert "16 sequences x 8 = 128 tokens per step" in out
    assert "statistics of the global batch are wanted first" in out
    counts = out.partition("tokens that the terms count in the first batch\n")[2]
    assert [line.split() for line in counts.splitlines()[:2]] == [
        ["ce", "128"],
        ["balance", "128"],
    ]
    row = next(line for line in out.splitlines() if "student/output" in line)
    assert row.split()[1:] == ["[300", "16]", "float32", "4,800", "-,", "fsdp", "9,600"]
    assert "in matmuls per step" in out
    memory, traffic = out.split("\n\n")[-2:]
    assert memory.splitlines()[0] == "memory of each device"
    assert "  parameters " in memory and "  temporaries " in memory
    kinds = [line.split()[:2] for line in traffic.splitlines() if "all-" in line]
    assert ["all-gather", "fsdp"] in kinds
    assert traffic.splitlines()[0].split()[-3:] == ["times", "bytes", "sent"]


TEACHER = (
    "OnlineTeacher(checkpoint='runs/none', model=functools.partial(\n"
    "            models.Transformer, vocab_size=300, dim=16, num_layers=1,\n"
    "            num_heads=2))"
)


@pytest.fixture
def taught(flags):
    """With a teacher whose files are nowhere, and with data yet to be had."""
    path = Path(flags[1].removeprefix("--fdl_config="))
    text = path.read_text()
    begin, end = text.index("data.TokenizedText("), text.index("        optimizer=")
    text = (
        f"{text[:begin]}data.PlannedTokens(vocab_size=300, sequence_length=129),\n"
        f"        teacher={TEACHER},\n{text[end:]}"
    )
    imported = "import losses, models\nfrom runner.teachers import OnlineTeacher\n"
    path.write_text(text.replace("import losses, models\n", imported))
    return flags


def test_neither_devices_nor_a_teachers_files_nor_a_text_need_be_there(
    taught, capsys, monkeypatch
):
    small = topology.Chip("NVIDIA H100", 1000)
    monkeypatch.setitem(topology.CHIPS, "h100", small)
    assert main.main([*taught, "--gin.mesh.topology='h100:8'"]) == 0
    out = capsys.readouterr().out
    assert "devices     8 x NVIDIA H100, mesh data=4 fsdp=2" in out
    assert "faked by the CPU: partitioned for 8 devices" in out
    assert "7.91P per second at peak: at least" in out
    assert "its files were not looked at" in out
    assert "attention of whole rows; compiled here as attention in blocks of 64" in out
    assert "  does not fit the 1.00kB of one NVIDIA H100: " in out


def test_what_the_compiler_finds_no_room_for_is_said_in_its_words(
    taught, capsys, monkeypatch
):
    def refuses(lowered, **options):
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
            "for HLO temporaries (35.35G) exceeds available HBM (15.75G).\nAnd so on."
        )

    monkeypatch.setattr(jax.stages.Lowered, "compile", refuses)
    assert main.main(taught) == 0
    out = capsys.readouterr().out
    assert "  does not fit, says the compiler: Ran out of memory on HBM, the " in out
    assert "And so on." not in out and "teacher's parameters" in out
    assert "collectives not known: nothing was compiled" in out


def test_a_run_without_them_is_refused_in_a_line(taught, capsys, tmp_path):
    run = [*taught[:-1], f"--workdir={tmp_path / 'run'}"]
    assert main.main(run) == 2
    assert "train_data: PlannedTokens holds no text" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_teacher_without_a_model_has_no_shapes_without_its_files(taught, capsys):
    assert main.main([*taught, "--fdl.teacher.model=None"]) == 2
    line = (
        "runner: --fdl.teacher.model=None: teacher: checkpoint: no such file or folder"
    )
    assert line in capsys.readouterr().err


def test_what_does_not_fit_is_told_in_a_line(flags, capsys):
    assert main.main([*flags, "--fdl.batch_size=12"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("runner: batch_size: 12 does not divide into 1 microbatches")
    assert err.rstrip().endswith("the nearest that does is 16")


def test_a_loss_that_does_not_fit_is_told_in_a_line(flags, capsys):
    loss = "losses.ClassBias(loss=losses.CrossEntropy(), first=300)"
    assert main.main([*flags, f"--fdl.losses.ce.loss={loss}"]) == 2
    line = (
        "runner: losses: ClassBias: first=300, and the student has the classes 0 to 299"
    )
    assert capsys.readouterr().err.rstrip() == line


def test_a_mesh_that_does_not_fit_is_told_in_a_line(flags, capsys):
    assert main.main([*flags, "--gin.mesh.tensor=3"]) == 2
    assert "does not multiply to the 8 devices here" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def clean_gin():
    yield
    import gin

    gin.clear_config()
    assert runtime.current() == runtime.Runtime()
