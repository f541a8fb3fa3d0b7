"""SmolLM3, Phi and Granite."""

from models.pretrained.entries import gguf, gguf_rope, gguf_window
from models.pretrained.entries.part import entry
from models.pretrained.gguf_families.family import DENSE, Family, square
from models.pretrained.tensors import fusing

_PHI_3 = (
    fusing.Fusion(
        whole="attn_qkv.weight",
        parts=tuple(f"attn_{name}.weight" for name in "qkv"),
        shares=fusing.heads,
    ),
    fusing.Fusion(
        whole="ffn_up.weight",
        parts=("ffn_gate.weight", "ffn_up.weight"),
        shares=fusing.halves,
    ),
)
FAMILIES = {
    "smollm3": Family(
        parts=(*gguf.SIZES, gguf_window.SOME_ROTARY, gguf.mlp()),
        names=DENSE,
        interleaved=True,
    ),
    "phi3": Family(
        parts=(*gguf.sizes(partial=True), gguf_rope.ROPE, gguf.NO_WINDOW, gguf.mlp()),
        names=DENSE,
        long_rope=True,
        assumed=square,
        rules=_PHI_3,
    ),
    "granite": Family(
        parts=(
            *(*gguf.COMMON, gguf.mlp()),
            entry("embedding_scale", "embedding_scale", 1.0),
            entry("residual_scale", "residual_scale", 1.0),
            entry("attention.scale", "attention_scale", 1.0),
            entry("logit_scale", "logit_divisor", 1.0),
        ),
        names=DENSE,
        interleaved=True,
        says=frozenset({"attention_scale", "embedding_scale"}),
    ),
}
