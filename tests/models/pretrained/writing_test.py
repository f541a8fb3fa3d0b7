"""Models written as folders and `.gguf` files: read back, they are the same."""

import dataclasses
import functools
import json
import os
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_dtypes import bfloat16
from safetensors import safe_open
from safetensors.numpy import load_file

from models import (
    GatedMLP,
    LayerAttention,
    MoE,
    Transformer,
    pretrained,
    rope_scaling,
)
from models.latent_attention import Latents
from models.pretrained import writing
from models.pretrained.gguf_reader import GGUFReader
from models.pretrained.writing import blocks
from models.pretrained.writing.tensors import Tensor
from models.quantized.grid import Grid
from models.routing.scores import Routing
from runner.checkpoint import tree_paths
from tests.models.pretrained import inputs, tables
from tests.models.pretrained.tables import FAMILIES, FIXTURES, GGUF_FAMILIES

SMALL = functools.partial(
    Transformer,
    vocab_size=tables.expected("llama")["logits"].shape[-1],
    dim=16,
    num_layers=2,
    mlp=functools.partial(GatedMLP, hidden_dim=24),
)


OF_GEMMA_3 = {
    "qk_norm": True,
    "norm_placement": "both",
    "embedding_scale": 4.0,
    "mlp": functools.partial(GatedMLP, hidden_dim=24, activation="gelu"),
}


def paths(model) -> dict[str, np.ndarray]:
    """Random parameters of a model, by path."""
    module = nnx.eval_shape(lambda: model(rngs=nnx.Rngs(0)))
    state = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    draw = np.random.default_rng(0)
    return {
        name: 0.3 * draw.normal(size=x.shape).astype(np.float32)
        for name, x in tree_paths.by_path(state).items()
    }


def by_path(opened: pretrained.Pretrained, **fields) -> dict[str, np.ndarray]:
    return tree_paths.by_path(opened.arrays(**fields))


def written(folder: Path, model, arrays, *, dtype="float32", **options):
    """The model as a folder, opened again."""
    choice = writing.for_folder(model)
    options = {"context": 64, "begin": 1, "end": 2} | options
    writing.folder.write(folder, choice, arrays, dtype=dtype, **options)
    return pretrained.open_model(folder)


def written_gguf(
    folder: Path, model, arrays, *, dtype="float32", name="small", tokens=(), **options
):
    file = folder / "model.gguf"
    writing.gguf_writer.write(
        file,
        writing.for_gguf(model),
        arrays,
        dtype=dtype,
        context=64,
        name=name,
        tokenizer={"ggml.eos_token_id": 2, "ggml.tokens": ["a", *tokens]},
        **options,
    )
    return pretrained.open_model(file)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name])
        for name in a
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_that_is_read_and_written_is_the_same_bit_for_bit(
    family: str, tmp_path: Path
):
    opened = pretrained.open_model(FIXTURES / family)
    arrays = by_path(opened)
    dtype = str(arrays["embedding"].dtype)
    again = written(tmp_path, opened.model, arrays, dtype=dtype)
    assert same(by_path(again), arrays)
    assert again.context == opened.context and again.end_ids == opened.end_ids
    # Tensor by tensor, and entry by entry, as transformers 5.24.0 wrote them.
    ours, theirs = (
        {name: x.tobytes() for name, x in load_file(f / "model.safetensors").items()}
        for f in (tmp_path, FIXTURES / family)
    )
    assert ours == theirs
    ours, theirs = (
        json.loads((f / "config.json").read_text())
        for f in (tmp_path, FIXTURES / family)
    )
    # Absent, it would be that of the family's first model, whatever the vocabulary.
    assert ours.pop("pad_token_id", 0) is None
    assert {name: ours[name] for name in ours if name in theirs} == {
        name: theirs[name] for name in ours if name in theirs
    }


# Which llama.cpp does not load from the files of its own converter.
UNLOADED = {
    "olmo2": "head_dim=8; the nearest, olmo2, has 4",
    "olmoe": "num_kv_heads=2; the nearest, olmoe, has 4",
}
# What its converter leaves out, or writes and llama.cpp does not read.
UNREAD = {
    "gpt_neox": "mlp.activation='gelu_exact'; .* gptneox, has 'gelu'",
    "gpt_oss": "attention_pattern=.*truncate=False.*; .* gpt-oss, has .*=True",
    "linear_scaling": "mlp.activation='gelu_exact'; .* llama, has 'silu'",
    "mistral": "attention_window=3; .* has None",
    "qwen2_sliding": "attention_window=3; .* has None",
    "qwen3_moe_plain_gates": "mlp.renormalize=False; .* qwen3moe, has True",
    "smollm3": "attention_pattern=.*; the nearest, llama, has",
    "starcoder2": "attention_window=3; .* starcoder2, has None",
    "yarn_other_turns": "rope_scaling=YaRN.*; the nearest, llama, has YaRN.*=32.0",
}
# Which ours says, where the converter leaves it out.
SAID = ["gemma2", "gemma3"]


@pytest.mark.parametrize(
    "family", sorted({*GGUF_FAMILIES} - {*UNREAD, *UNLOADED, *SAID})
)
def test_a_gguf_file_is_as_the_converter_of_llama_cpp_makes_it(
    family: str, tmp_path: Path
):
    opened = pretrained.open_model(FIXTURES / family)
    again = written_gguf(tmp_path, opened.model, by_path(opened))
    ours = GGUFReader(tmp_path / "model.gguf")
    theirs = GGUFReader(inputs.write(family, tmp_path))
    assert ours.shapes() == theirs.shapes()
    for name, read in theirs.tensors().items():
        np.testing.assert_allclose(ours.tensors()[name](), read(), rtol=1e-6)
    entries, expected = ours.values(""), theirs.values("")
    unlike = {
        name
        for name in expected
        if entries.get(name) != expected[name] and not name.startswith("general.")
    }
    # They have no dense layer, whose width the fixture's converter writes too.
    assert unlike <= {
        f"{kind}.feed_forward_length" for kind in ("qwen2moe", "qwen3moe")
    }
    assert again.end_ids == (2,)


@pytest.mark.parametrize("family", UNLOADED)
def test_heads_that_llama_cpp_does_not_load_are_refused(family: str):
    model = pretrained.open_model(FIXTURES / family).model
    with pytest.raises(ValueError, match=f"files has .*{UNLOADED[family]}"):
        writing.for_gguf(model)


def test_frequencies_that_llama_cpp_reads_for_llama_alone_are_refused_elsewhere():
    scaling = rope_scaling.PerFrequency(factors=(1.0, 2.0))
    assert writing.for_gguf(functools.partial(SMALL, rope_scaling=scaling))
    with pytest.raises(ValueError, match="nearest, llama, has False"):
        writing.for_gguf(functools.partial(SMALL, rope_scaling=scaling, qk_norm=True))


@pytest.mark.parametrize("family", UNREAD)
def test_what_no_gguf_file_says_is_refused(family: str):
    model = pretrained.open_model(FIXTURES / family).model
    with pytest.raises(
        ValueError, match=f"no family of .gguf files has {UNREAD[family]}"
    ):
        writing.for_gguf(model)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        (
            "smollm3",
            {
                "num_layers": 4,
                "attention_pattern": [
                    *[LayerAttention()] * 3,
                    LayerAttention(rotary=False),
                ],
            },
        ),
        ("gemma3", {**OF_GEMMA_3, "attention_pattern": [LayerAttention(window=3)]}),
        ("gemma3", {**OF_GEMMA_3, "num_layers": 62, "num_kv_heads": 1}),
    ],
)
def test_the_architecture_is_the_one_that_llama_cpp_computes_so(family, fields):
    assert writing.for_gguf(functools.partial(SMALL, **fields)).family == family


def test_a_name_that_llama_cpp_would_act_on_is_left_out(tmp_path: Path):
    arrays, of_phi = paths(SMALL), ("<unk>", "<s>", "</s>", "<|endoftext|>")
    for name, tokens, expected in [
        ("from_Phi3", (), None),
        ("from_Phi3", of_phi, "from_Phi3"),
        ("small", (), "small"),
    ]:
        written_gguf(tmp_path, SMALL, arrays, name=name, tokens=tokens)
        stored = GGUFReader(tmp_path / "model.gguf").value("general.name")
        assert stored == expected


@pytest.mark.parametrize("family", SAID)
def test_windows_and_scales_that_the_converter_leaves_out_are_written(
    family: str, tmp_path: Path
):
    opened = pretrained.open_model(FIXTURES / family)
    again = written_gguf(tmp_path, opened.model, by_path(opened))
    assert tables.largest_difference(again.load(), family) < tables.TOLERANCE


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", {}),
        ("llama", {"num_kv_heads": 2, "head_dim": 8, "norm_eps": 1e-5}),
        ("llama", {"rope_scaling": rope_scaling.Linear(factor=2.0)}),
        ("llama", {"tie_head": True, "mlp": GatedMLP}),
        ("mistral", {"attention_window": 7}),
        ("qwen2", {"attention_bias": True}),
        ("qwen2", {"attention_bias": True, "attention_window": 7}),
        ("qwen3", {"qk_norm": True}),
        ("mixtral", {"mlp": functools.partial(MoE, renormalize=True)}),
        ("qwen3_moe", {"mlp": MoE, "qk_norm": True, "attention_window": 7}),
    ],
)
def test_the_family_is_the_one_that_says_what_the_model_does(
    family: str, fields: dict, tmp_path: Path
):
    model = functools.partial(SMALL, **fields)
    assert writing.for_folder(model).family == family
    arrays = paths(model)
    assert same(by_path(written(tmp_path, model, arrays)), arrays)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logit_soft_cap": 30.0}, "logit_soft_cap=30.0; the nearest, llama, has None"),
        ({"mlp": MoE}, "has mlp.renormalize=False; the nearest, mixtral, has True"),
        (
            {"mlp": functools.partial(MoE, renormalize=True, num_shared_experts=1)},
            "has mlp.num_shared_experts=1; the nearest, mixtral, has 0",
        ),
        (
            {"embedding_scale": 3.0, "tie_head": True, "qk_norm": True},
            "embedding_scale=3.0; the nearest, qwen3, has 1.0",
        ),
        ({"qk_norm": True, "attention_bias": True}, "qk_norm=True; the nearest, qwen2"),
        (
            {"rope_scaling": rope_scaling.PerFrequency(factors=(1.0, 2.0))},
            r"rope_scaling=PerFrequency\(factors=\(1.0, 2.0\)\)",
        ),
        ({"mlp": nnx.Linear}, "mlp Linear cannot be exported: .*models.GatedMLP"),
    ],
)
def test_a_setting_that_no_family_has_is_named_with_the_nearest(fields, message):
    with pytest.raises(ValueError, match=message):
        writing.for_folder(functools.partial(SMALL, **fields))


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="Linear cannot be exported: it must be a mo"):
        writing.for_folder(nnx.Linear)


def test_settings_that_no_family_has_are_folded_into_the_parameters(tmp_path: Path):
    model = functools.partial(
        SMALL,
        qk_norm=True,
        embedding_scale=50.0,
        norm_offset=1.0,
        attention_scale=0.3,
        rope_layout="interleaved",
    )
    arrays = paths(model)
    choice = writing.for_folder(model)
    assert choice.family == "qwen3"
    assert choice.folded == (
        "embedding_scale=50.0",
        "norm_offset=1.0",
        "attention_scale=0.3",
        "rope_layout='interleaved'",
    )
    ours, state = nnx.split(model(rngs=nnx.Rngs(0)))
    nested: dict = {}
    for path, array in arrays.items():
        *folders, name = path.split("/")
        node = functools.reduce(lambda n, f: n.setdefault(f, {}), folders, nested)
        node[name] = jnp.asarray(array)
    nnx.replace_by_pure_dict(state, nnx.restore_int_paths(nested))
    rows = tables.expected("llama")
    expected = tables.logits(nnx.merge(ours, state), rows)
    logits = tables.logits(written(tmp_path, model, arrays).load(), rows)
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    assert np.std(expected) > 0.2


def test_a_norm_over_all_heads_is_put_in_order_head_by_head(tmp_path: Path):
    model = functools.partial(
        SMALL,
        qk_norm=True,
        qk_norm_over="heads",
        norm_placement="post",
        rope_layout="interleaved",
    )
    arrays = paths(model)
    again = by_path(written(tmp_path, model, arrays))
    path = "blocks/0/attention/query_norm/scale"
    before, after = (x[path].reshape(4, 4) for x in (arrays, again))
    np.testing.assert_array_equal(after, before[:, [0, 2, 1, 3]])


def test_rotated_features_of_latents_are_put_in_the_order_of_llama_cpp(tmp_path: Path):
    model = functools.partial(
        SMALL,
        norm_eps=1e-6,
        latents=Latents(kv_rank=4, query_rank=3, plain_dim=2, rope_dim=6, value_dim=5),
        mlp=functools.partial(
            MoE,
            num_shared_experts=1,
            routing=Routing(scores="sigmoid", bias=True),
        ),
    )
    arrays = paths(model)
    arrays |= {f"blocks/{i}/mlp/bias": np.ones(8, np.float32) for i in range(2)}
    again = by_path(written_gguf(tmp_path, model, arrays))
    for name, plain in [("latent", 4), ("query_up", 2)]:
        path = f"blocks/1/attention/{name}"
        order = [*range(plain), *(plain + i for i in (0, 3, 1, 4, 2, 5))]
        np.testing.assert_array_equal(again[path], arrays[path][..., order])
    path = "blocks/1/attention/key_value"
    np.testing.assert_array_equal(again[path], arrays[path])
    plain = dataclasses.replace(model.keywords["latents"], query_rank=None)
    with pytest.raises(ValueError, match="got query_rank=None and 2 layers"):
        writing.for_gguf(functools.partial(model, latents=plain))


def test_a_bias_and_an_unnormed_query_take_the_scale_too(tmp_path: Path):
    model = functools.partial(SMALL, attention_bias=True, attention_scale=1.0)
    arrays = paths(model)
    again = by_path(written(tmp_path, model, arrays))
    for name in ("query", "query_bias"):
        path = f"blocks/0/attention/{name}"
        np.testing.assert_allclose(again[path], 2 * arrays[path], rtol=1e-6)
    path = "blocks/0/attention/key"
    np.testing.assert_array_equal(again[path], arrays[path])


@pytest.mark.parametrize("mlp", [GatedMLP, functools.partial(MoE, renormalize=True)])
def test_stacked_layers_are_written_layer_by_layer(mlp, tmp_path: Path):
    separate = functools.partial(SMALL, mlp=mlp)
    stacked = functools.partial(separate, layers="stacked")
    arrays = paths(stacked)
    again = written(tmp_path, stacked, arrays)
    assert same(by_path(again, layers="stacked"), arrays)
    assert by_path(again).keys() == paths(separate).keys()


def test_a_head_that_equals_the_embedding_stays_one_of_its_own(tmp_path: Path):
    arrays = paths(SMALL)
    arrays["output"] = arrays["embedding"]
    assert same(by_path(written(tmp_path, SMALL, arrays)), arrays)
    assert same(by_path(written_gguf(tmp_path, SMALL, arrays)), arrays)


def test_weights_are_spread_over_files_of_a_size(tmp_path: Path):
    arrays = paths(SMALL)
    again = written(tmp_path, SMALL, arrays, shard_size=6_000)
    files = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert max((tmp_path / f).stat().st_size for f in files) < 8_000
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in arrays.values())
    assert same(by_path(again), arrays)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_can_be_read_by_whom_the_umask_says(mask, mode, tmp_path: Path):
    before = os.umask(mask)
    try:
        written(tmp_path, SMALL, paths(SMALL))
        written_gguf(tmp_path, SMALL, paths(SMALL))
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {mode}


def test_numbers_are_rounded_to_the_nearest_and_to_even(tmp_path: Path):
    arrays = paths(SMALL)
    # 1 + 2^-8 is halfway between two neighbours in bfloat16, and so is 1 + 3 · 2^-8.
    table = arrays["embedding"]
    table[0, :3] = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20]
    expected = np.array([1.0, 1 + 2**-6, 1 + 2**-7], bfloat16)
    for write in (written, written_gguf):
        again = by_path(write(tmp_path, SMALL, arrays, dtype="bfloat16"))
        np.testing.assert_array_equal(again["embedding"][0, :3], expected)
    # llama.cpp multiplies with vectors in float32 alone.
    assert again["norm/scale"].dtype == np.float32
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (1e5, "float16", "embed_tokens.weight is too large for float16"),
        (np.nan, "float32", "embed_tokens.weight is not finite"),
        (np.inf, "bfloat16", "embed_tokens.weight is not finite"),
    ],
)
def test_a_value_that_a_type_does_not_have_is_refused(value, dtype, message, tmp_path):
    arrays = paths(SMALL)
    arrays["embedding"][0, 0] = value
    with pytest.raises(ValueError, match=message):
        written(tmp_path, SMALL, arrays, dtype=dtype)


def test_the_libraries_of_the_formats_read_the_files(tmp_path: Path):
    arrays = paths(SMALL)
    written(tmp_path, SMALL, jax.tree.map(jnp.asarray, arrays), dtype="float16")
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as tensors:
        assert tensors.metadata() == {"format": "pt"}
        np.testing.assert_array_equal(
            tensors.get_tensor("model.embed_tokens.weight"),
            arrays["embedding"].astype(np.float16),
        )
    written_gguf(tmp_path, SMALL, arrays)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    assert reader.fields["llama.context_length"].contents() == 64
    assert {tensor.name for tensor in reader.tensors} >= {"token_embd.weight"}


@pytest.mark.parametrize(("weights", "kind"), [("int8", "Q8_0"), ("int4", "Q4_0")])
def test_kernels_on_a_grid_of_llama_cpp_are_stored_so(weights, kind, tmp_path: Path):
    grid = Grid(weights, 32, "float16", 1, 1)
    draw = np.random.default_rng(0)
    kernel = draw.normal(size=(64, 3)).astype(np.float32) * [1.0, 1e-5, 0.0]
    on_grid = np.asarray(grid.nearest(np.float32(kernel))).T
    assert len(np.unique(on_grid[0])) > 5
    tensor = Tensor("up", "mlp/up", (3, 64), lambda: on_grid)
    assert blocks.kind_of(tensor) == kind
    stored = gguf.dequantize(
        blocks.packed(tensor, kind), gguf.GGMLQuantizationType[kind]
    )
    np.testing.assert_array_equal(stored.reshape(3, 64), on_grid)
    off = Tensor("up", "mlp/up", (3, 64), lambda: on_grid * np.float32(1 + 2**-20))
    assert blocks.kind_of(off) is None


@pytest.mark.slow
def test_a_quantized_file_holds_the_values_on_the_grid(tmp_path: Path):
    model = functools.partial(SMALL, dim=32)
    grid = Grid("int8", 32, "float16", 1, 1)
    arrays = paths(model)
    for path in arrays:
        if path.endswith("mlp/up"):
            arrays[path] = np.asarray(grid.nearest(arrays[path]))
    written_gguf(tmp_path, model, arrays, quantized=True)
    file = tmp_path / "model.gguf"
    assert GGUFReader(file).value("general.file_type") == 7
    kinds = {x.name: x.tensor_type.name for x in gguf.GGUFReader(file).tensors}
    assert kinds["blk.1.ffn_up.weight"] == "Q8_0"
    assert kinds["blk.1.ffn_gate.weight"] == "F32"
    again = by_path(pretrained.open_model(file))
    for path, array in arrays.items():
        np.testing.assert_array_equal(again[path], array)
    for path in arrays:
        arrays[path] = arrays[path] * np.float32(1 / 3)
    with pytest.raises(ValueError, match=r"^no kernel is on the grid of Q8_0 or Q4_0"):
        written_gguf(tmp_path, model, arrays, quantized=True)
