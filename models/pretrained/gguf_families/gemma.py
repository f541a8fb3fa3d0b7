"""The text models of Gemma: norms hold one more, and factors follow from sizes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from models.mlp import GatedMLP
from models.pretrained.entries import gguf, gguf_window, part
from models.pretrained.entries.part import fixed
from models.pretrained.gguf_families.family import DENSE, Family, tied
from models.pretrained.tensors import gguf_names


def _scalar(layers: int) -> Callable[[Mapping[str, Any]], int]:
    """Return Gemma's `query_pre_attn_scalar`, another for its model of 27B."""

    def scalar(fields: Mapping[str, Any]) -> int:
        largest = fields["num_layers"] == layers
        return fields["dim"] // fields["num_heads"] if largest else fields["head_dim"]

    return scalar


_GEMMA_2, _GEMMA_3 = _scalar(46), _scalar(62)
FAMILIES = {
    "gemma": Family(
        parts=(
            *(*gguf.COMMON, gguf.mlp(act="gelu")),
            part.embedding_scale("embedding_length"),
        ),
        names=DENSE,
        # Its converter adds one to the scales of norms, as llama.cpp adds none.
        says=frozenset({"embedding_scale"}),
        assumed=tied,
    ),
    "gemma2": Family(
        parts=(
            *(*gguf.SIZES, gguf_window.windows(2), gguf.mlp(act="gelu")),
            part.embedding_scale("embedding_length"),
            gguf_window.query_scale(_GEMMA_2),
            gguf.optional("attn_logit_softcapping", "attention_soft_cap", absent=50.0),
            gguf.optional("final_logit_softcapping", "logit_soft_cap", absent=30.0),
            fixed(norm_placement="both"),
        ),
        names={GatedMLP: gguf_names.GEMMA_2},
        says=frozenset({"embedding_scale"}),
        assumed=tied,
        attention_scale=lambda fields: 1 / math.sqrt(_GEMMA_2(fields)),
    ),
    "gemma3": Family(
        parts=(
            *(*gguf.SIZES, gguf_window.windows(6, two_bases=True)),
            *(gguf.mlp(act="gelu"), part.embedding_scale("embedding_length")),
            gguf_window.query_scale(_GEMMA_3),
            gguf.optional("final_logit_softcapping", "logit_soft_cap"),
            fixed(norm_placement="both", qk_norm=True),
        ),
        names={GatedMLP: gguf_names.GEMMA_2},
        says=frozenset({"embedding_scale"}),
        attention_scale=lambda fields: 1 / math.sqrt(_GEMMA_3(fields)),
    ),
}
