"""Models of every family as exported folders and `.gguf` files, with our logits.

    python tests/parity/export.py FOLDER [FAMILY ...]

Writes FOLDER/NAME/hf, FOLDER/NAME/model.gguf where such a file can say what the model
does, and FOLDER/NAME/expected.safetensors; `check_exported.py` reads them.
"""

import dataclasses
import functools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from models import MLP, GatedMLP, LayerAttention, MoE, Transformer, pretrained
from models.latent_attention import Latents
from models.pretrained import writing
from models.rope_scaling import LongRoPE, YaRN
from models.routing.scores import Routing
from runner.checkpoint import tree_paths
from runner.export.job import Export
from tests.models.pretrained import tables

SAVED = Path(__file__).parents[1] / "compatibility" / "saved_4c223cb" / "teacher"
TEXTS = [  # short: llama.cpp goes no further than the 32 positions it was trained on
    "it's ÉTÉ: ½ 🙂",
    "def f(x):\n\treturn 12345",
    "  # don't  ",
    "東京, Моск\r\n",
    "a",
]
VOCAB = 64
# Characters for ids, so that llama.cpp has something to name.
TOKENIZER = {
    "ggml.model": "gpt2",
    "ggml.pre": "gpt-2",
    "ggml.tokens": [f"<{i}>" if i < 3 else chr(33 + i) for i in range(VOCAB)],
    "ggml.token_type": [3] * 3 + [1] * (VOCAB - 3),
    "ggml.merges": ["D E"],
    "ggml.bos_token_id": 1,
    "ggml.eos_token_id": 2,
    "ggml.add_bos_token": False,
}
SMALL = functools.partial(
    Transformer, vocab_size=VOCAB, dim=32, num_layers=2, num_heads=4
)
GPT = functools.partial(
    SMALL,
    norm="layer",
    attention_bias=True,
    attention_output_bias=True,
    mlp=MLP,
)
OVER_HEADS = {
    "qk_norm": True,
    "qk_norm_over": "heads",
    "rope_layout": "interleaved",
}
EXTENDED = YaRN(factor=4.0, original_length=16)
OF_DEEPSEEK = functools.partial(
    SMALL,
    norm_eps=1e-6,
    latents=Latents(kv_rank=8, query_rank=12, plain_dim=6, rope_dim=4, value_dim=5),
    mlp=functools.partial(
        MoE,
        num_experts=8,
        experts_per_token=3,
        num_shared_experts=1,
        renormalize=True,
        routing=Routing(
            scores="sigmoid",
            bias=True,
            num_groups=2,
            groups_per_token=1,
            gate_scale=1.5,
        ),
    ),
)
OURS = {
    "ours_plain": SMALL,
    "ours_stacked_experts": functools.partial(
        SMALL,
        layers="stacked",
        num_kv_heads=2,
        mlp=functools.partial(MoE, num_experts=4, renormalize=True),
    ),
    "ours_folded": functools.partial(
        SMALL,
        qk_norm=True,
        embedding_scale=50.0,
        norm_offset=1.0,
        attention_scale=0.3,
        rope_layout="interleaved",
    ),
    "ours_folded_biases": functools.partial(
        SMALL, attention_bias=True, attention_scale=0.3, rope_layout="interleaved"
    ),
    "ours_equal_head": SMALL,
    "ours_smollm3": functools.partial(
        SMALL,
        num_layers=5,
        attention_pattern=[*[LayerAttention()] * 3, LayerAttention(rotary=False)],
    ),
    "ours_yarn": functools.partial(
        SMALL,
        qk_norm=True,
        rope_scaling=YaRN(factor=4.0, original_length=16, amplitude=1.3),
    ),
    "ours_gpt2": functools.partial(
        GPT,
        learned_positions=64,
        attention_pattern=[LayerAttention(rotary=False)],
    ),
    "ours_gptneox": functools.partial(GPT, residual="parallel", rope_dim=4),
    "ours_starcoder2": functools.partial(GPT, num_kv_heads=2, tie_head=True),
    "ours_olmo2": functools.partial(SMALL, **OVER_HEADS, norm_placement="post"),
    "ours_olmoe": functools.partial(SMALL, **OVER_HEADS, mlp=MoE),
    # Windows of other layers than every second, and rotations as llama.cpp has them.
    "ours_gpt_oss": functools.partial(
        SMALL,
        num_layers=3,
        num_kv_heads=2,
        head_dim=16,
        attention_bias=True,
        attention_output_bias=True,
        attention_sinks=True,
        attention_pattern=[
            LayerAttention(window=window, rope_scaling=EXTENDED)
            for window in (None, 3, 3)
        ],
        mlp=functools.partial(
            MoE,
            num_experts=4,
            renormalize=True,
            activation="gelu_sigmoid",
            biases=True,
            clamp=7.0,
        ),
    ),
    "ours_deepseek": functools.partial(OF_DEEPSEEK, rope_scaling=EXTENDED),
    "ours_deepseek_scale": functools.partial(
        OF_DEEPSEEK,
        rope_layout="interleaved",
        rope_scaling=dataclasses.replace(EXTENDED, amplitude=1.2),
        attention_scale=0.5,
    ),
    # By its number of layers llama.cpp knows that queries are no products.
    "ours_deepseek_plain_queries": functools.partial(
        OF_DEEPSEEK,
        num_layers=26,
        first_layers=1,
        first_mlp=functools.partial(GatedMLP, hidden_dim=24),
        latents=dataclasses.replace(OF_DEEPSEEK.keywords["latents"], query_rank=None),
    ),
    # `check_exported.py` asks llama.cpp for 256 positions.
    **{
        name: functools.partial(
            SMALL,
            num_kv_heads=2,
            rope_scaling=LongRoPE(
                short=(1.0, 1.5, 2.0, 2.5),
                long=(2.0, 4.0, 6.0, 8.0),
                original_length=length,
                amplitude=1.3,
            ),
        )
        for name, length in {"ours_longrope": 256, "ours_longrope_long": 4}.items()
    },
}


def main(folder: Path, only: list[str]) -> None:
    for family in [f for f in tables.FAMILIES if f in (only or tables.FAMILIES)]:
        opened = pretrained.open_model(tables.FIXTURES / family)
        arrays = tree_paths.by_path(opened.arrays())
        dtype = str(arrays["embedding"].dtype)
        write(folder / family, opened.model, arrays, opened.load(), dtype=dtype)
    if not only:
        write_run(folder / "ours_with_tokenizer")
    for name, model in OURS.items():
        if only and name not in only:
            continue
        arrays, loaded = drawn(model, equal_head=name.endswith("equal_head"))
        write(folder / name, model, arrays, loaded, dtype="float32")


def write(
    folder: Path, model: Any, arrays: dict[str, Any], loaded: Transformer, *, dtype: str
) -> None:
    rows = tables.expected("llama")
    logits = tables.logits(loaded, rows)
    hf = folder / "hf"
    hf.mkdir(parents=True)
    save_file({**rows, "logits": logits}, folder / "expected.safetensors")
    writing.folder.write(
        hf,
        writing.for_folder(model),
        arrays,
        dtype=dtype,
        context=64,
        begin=1,
        end=2,
        shard_size=20_000,
    )
    try:
        choice = writing.for_gguf(model)
    except ValueError as error:
        print(f"{folder.name}: {error}")
        return
    writing.gguf_writer.write(
        folder / "model.gguf",
        choice,
        arrays,
        dtype="float32",
        context=64,
        name=folder.name,
        tokenizer=TOKENIZER,
    )


def write_run(folder: Path) -> None:
    """A saved run, as `runner-export` writes it, and the ids of some texts."""
    run = folder / "run"
    shutil.copytree(SAVED, run)
    tokenizer = Tokenizer.from_file(str(run / "tokenizer.json"))
    Export(workdir=str(run), to=str(folder / "hf")).write()
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    # Of the ways to cut a text that llama.cpp knows, one for its file.
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    (run / "tokenizer.json").write_text(tokenizer.to_str())
    Export(workdir=str(run), to=str(folder / "gguf"), format="gguf").write()
    (folder / "gguf" / "model.gguf").rename(folder / "model.gguf")
    gguf_ids = [tokenizer.encode(text).ids for text in TEXTS]
    texts = {"texts": TEXTS, "ids": ids, "gguf_ids": gguf_ids}
    (folder / "texts.json").write_text(json.dumps(texts))
    rows = tables.expected("llama")
    logits = tables.logits(pretrained.open_model(folder / "hf").load(), rows)
    save_file({**rows, "logits": logits}, folder / "expected.safetensors")


def drawn(model: Any, *, equal_head: bool) -> tuple[dict[str, Any], Transformer]:
    """Random parameters by path, and the model with them."""
    graph, state = nnx.split(nnx.eval_shape(lambda: model(rngs=nnx.Rngs(0))))
    draw = np.random.default_rng(0)
    shapes = nnx.to_pure_dict(state)

    def values(x: jax.ShapeDtypeStruct) -> jax.Array:
        size = 0.6 if len(x.shape) < 3 else x.shape[-2] ** -0.5
        return jnp.asarray(size * draw.normal(size=x.shape), jnp.float32)

    tree = jax.tree.map(values, shapes)
    if equal_head:
        tree["output"] = tree["embedding"]
    nnx.replace_by_pure_dict(state, tree)
    return tree_paths.by_path(tree), nnx.merge(graph, state)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
