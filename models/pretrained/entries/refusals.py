"""Families of published models that are known and not read, each with its reason."""

from collections.abc import Collection, Mapping, Sequence

from models import checks

_NAMES: Mapping[str, Sequence[str]] = {
    "it reads images, sounds or video too; save its text model alone": (
        *("gemma3", "gemma4", "idefics3", "internvl", "llava", "llava_next"),
        *("llama4", "mistral3", "mllama", "paligemma", "phi4_multimodal", "pixtral"),
        *("qwen2_5_vl", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "smolvlm", "qwen2vl"),
        *("qwen2_5_omni", "qwen3_omni_moe", "qwen3_5", "qwen3vl", "qwen2_audio"),
        "qwen3vlmoe",
    ),
    "it has an encoder, and no decoder alone": (
        *("albert", "bart", "bert", "deberta-v2", "distilbert", "electra", "mbart"),
        *("modernbert", "mt5", "pegasus", "roberta", "t5", "t5gemma", "umt5"),
        *("whisper", "xlm-roberta", "nomic-bert"),
    ),
    "layers of a recurrent state (Mamba, RWKV, linear attention)": (
        *("bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "lfm2"),
        *("lfm2_moe", "mamba", "mamba2", "minimax", "nemotron_h", "olmo_hybrid"),
        *("kimi_linear", "qwen3_next", "qwen3next", "recurrent_gemma", "rwkv"),
        *("rwkv6", "rwkv7", "xlstm", "zamba", "zamba2", "falcon-h1", "bailing_hybrid"),
    ),
    "attention over latents (MLA) other than DeepSeek-V3's": (
        *("deepseek_v2", "deepseek_v32", "glm4_moe_lite", "kimi_k2", "kimi_k25"),
        *("longcat_flash", "minicpm3", "plm"),
    ),
    "scores that fall with distance (ALiBi)": ("bloom", "mpt", "refact"),
    "one norm for both halves of a parallel block": (
        *("codegen", "cohere", "cohere2", "command-r", "gptj", "phi", "phi2"),
    ),
    "some layers have experts and some have none": (
        *("dots1", "ernie4_5_moe", "exaone_moe", "glm4_moe", "glm4moe"),
    ),
    "gates of another kind than a softmax over the experts": (
        *("llama4_text", "minimax_m2", "phimoe"),
    ),
    "embeddings of its own in each layer, and layers that share keys and values": (
        "gemma3n",
        "gemma3n_text",
        "gemma4_text",
    ),
    "layers of different shapes": ("deci", "nemotron-nas", "openelm"),
    "norms without scales": ("olmo", "olmo1"),
    "a norm of another form (`LayerNorm1P`)": ("nemotron",),
    "an activation that no layer here has": ("apertus", "arcee", "opt", "persimmon"),
    "positions from a table with an offset, or sines": ("biogpt", "xglm", "ctrl"),
    "scores without a scale, and windows of every other layer": ("gpt_neo",),
    "attention as the difference of two": ("diffllama",),
    "weights of three values": ("bitnet",),
    "its logits were never compared with those of transformers": (
        *("dbrx", "ernie4_5", "exaone4", "falcon", "flex_olmo", "glm", "glm4"),
        *("gpt_bigcode", "granitemoe", "helium", "hunyuan_v1_dense", "hunyuan_v1_moe"),
        *("jetmoe", "ministral", "olmo3", "seed_oss", "stablelm"),
    ),
    "code of its own that comes with its files, which is never run": (
        *("baichuan", "chatglm", "internlm", "internlm2", "minicpm", "qwen", "xverse"),
        *("deepseek_vl", "internlm3", "yuan"),
    ),
}
REASONS = {name: reason for reason, names in _NAMES.items() for name in names}
"""By `model_type` of a folder or `general.architecture` of a `.gguf` file."""


def reason(name: object, families: Collection[str]) -> str:
    """Return why a family is not read, in one line; of an unknown one, the nearest.

    Args:
      name: as its files have it.
      families: that are read.
    """
    if name in REASONS:
        return REASONS[str(name)]
    return f"it must be one of {sorted(families)}{_hint(name, families)}"


def _hint(name: object, families: Collection[str]) -> str:
    hint = checks.nearest(str(name), families)
    return hint if "did you mean" in hint else ""
