"""Temporaries that XLA for CUDA allocates on an H100, compiled on a CPU; no GPU needed.

    python3.11 -m venv .venv-cuda
    .venv-cuda/bin/pip install -e . 'jax[cuda12]==0.10.2'
    PYTHONPATH=. .venv-cuda/bin/python tests/gpu/compiled_memory.py h100_sxm.txtpb

The argument describes the device: `xla/backends/gpu/target_config/specs/h100_sxm.txtpb`
of https://github.com/openxla/xla (commit 0774019d), of which a field that jaxlib 0.10.2
does not know is dropped. Its release of cuDNN gives way to the installed one. Products
are not tuned. `--only` takes `head` and `steps`; both take a minute or two.
"""

import argparse
import importlib.metadata
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import fiddle as fdl
import gin
import jax
import jax.numpy as jnp
from jax._src.cudnn import fused_attention_stablehlo
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import runner
from runner import runtime
from runner.machine.topology import CHIPS, Planned
from tests import heads
from tests.benchmarks import head_bench
from tests.gpu import experiments, head, settings

HEAD_TOKENS = (8192, 16_384, 32_768)
BLOCKS = (4096, 2048, 1024, 128)
STEPS = {"135M": (16, 2048), "1B": (1, 8192)}


def main(argv: Sequence[str]) -> None:
    """Print a line a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="the description of a device")
    parser.add_argument("--only", nargs="*", default=["head", "steps"])
    options = parser.parse_args(argv)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # holds no such programs
    os.environ["XLA_FLAGS"] = "--xla_gpu_autotune_level=0"
    gin.parse_config_file(str(experiments.GIN))
    version = importlib.metadata.version("nvidia-cudnn-cu12").split(".")[:3]
    device = described(options.target.read_text(), version)
    print(f"{device.device_kind}, jax {jax.__version__}, cuDNN {'.'.join(version)}")
    major, minor, patch = map(int, version)
    number = 10_000 * major + 100 * minor + patch
    with (
        mock.patch.object(jax, "devices", lambda *_: [device]),
        mock.patch.object(
            fused_attention_stablehlo, "check_cudnn_version", lambda: number
        ),
    ):
        if "head" in options.only:
            for tokens in HEAD_TOKENS:
                compile_heads(tokens, device)
        if "steps" in options.only:
            for name, (rows, length) in STEPS.items():
                compile_step(name, rows, length, device)


def described(target: str, cudnn: Sequence[str]) -> Any:
    """Return a device of that description, with that release of cuDNN."""
    parts = zip(("major", "minor", "patch"), cudnn, strict=True)
    found = "{" + " ".join(f"{name}: {value}" for name, value in parts) + "}"
    target = re.sub(
        r"dnn_version_info\s*\{[^}]*\}", f"dnn_version_info {found}", target
    )
    target = re.sub(
        r'dnn_version: "[^"]*"', f'dnn_version: "{".".join(cudnn)}"', target
    )
    target = re.sub(r"\n *collective_memory_granularity:.*", "", target)
    jax.devices()  # loads the plugin
    return topologies.get_topology_desc(
        "h100", platform="cuda", topology="1x1x1", target_config=target
    ).devices[0]


def compile_heads(tokens: int, device: Any) -> None:
    """Print temporaries of CE and z-loss over full logits, and in blocks."""
    size = head.SIZE._replace(tokens=tokens)
    given = heads.shapes(size)
    hidden = given["student"]["hidden"]
    given["student"]["hidden"] = jax.ShapeDtypeStruct(hidden.shape, jnp.bfloat16)
    place = NamedSharding(Mesh([device], ("x",)), PartitionSpec())
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        (given["student"], given["teacher"], given["batch"]),
    )
    heads_of = {"gpu.gin": runtime.current().head}
    for block in BLOCKS:
        room = 4 * block * size.vocabulary
        heads_of[f"blocks of {block:,}"] = runtime.Head(
            memory_budget=room, block_memory=room, smallest_block=block
        )
    ways = {"full logits": head.full} | {
        name: heads.step(size, head_bench.LABELS, dtype="bfloat16", head=value)
        for name, value in heads_of.items()
    }
    full = 0
    for name, way in ways.items():
        memory = temporaries(jax.jit(way).lower(*arguments).compile())
        full = full or memory
        share = f"{memory / full:.3f} of full logits"
        print(f"head, {tokens:,} tokens, {name}: {memory / 2**20:,.0f} MiB, {share}")


def compile_step(name: str, rows: int, length: int, device: Any) -> None:
    """Print temporaries of a step of training on labels."""
    shape = settings.SHAPES[name]
    cfg = experiments.experiment(shape, length, rows=rows)
    cfg.train_data = fdl.Config(
        runner.data.PlannedTokens, vocab_size=shape.vocabulary, sequence_length=length
    )
    planned = Planned([device], CHIPS["h100"])
    setup = fdl.build(cfg).prepare(runtime.current(), planned=planned)
    lowered = setup.step.compiled.lower(*setup.abstract_arguments())
    before = time.perf_counter()
    compiled = lowered.compile()
    took = f"compiled in {time.perf_counter() - before:.0f} s"
    memory = f"{temporaries(compiled) / 2**30:.1f} GiB"
    calls = f"{compiled.as_text().count('__cudnn$fmha')} calls of cuDNN's attention"
    print(f"step, {name}, {rows} x {length:,}: {memory}, {calls}, {took}")


def temporaries(compiled: Any) -> int:
    """Return bytes of a program's temporaries."""
    return compiled.memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    main(sys.argv[1:])
