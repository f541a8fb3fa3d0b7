"""Families of published models in general, and the parts that many of them share."""

import dataclasses
from collections.abc import Sequence

from models.pretrained.entries.mlp import dense
from models.pretrained.entries.part import Part, demanded, entry
from models.pretrained.tensors import fusing, names


@dataclasses.dataclass(frozen=True)
class Family:
    """One `model_type`.

    Attributes:
      parts: its entries and fields.
      names: of its tensors, by role.
      architecture: the class in transformers.
      mlp: the kind of its layers' second half.
      says: settings that it has itself, and that no parameter has to take up.
      rules: of tensors that hold several of those that `names` expects.
      unused: endings of names of tensors that no model needs.
      reads: ways of storing weights by `quant_method` that `rules` undo.
      wide: roles of tensors that are float32 in any file.
      layers_beyond: entries for how many layers follow the last, which are not read.
      context: the entry for the positions of the longest text.
    """

    parts: Sequence[Part]
    names: names.Names
    architecture: str
    mlp: type
    says: frozenset[str] = frozenset()
    rules: Sequence[fusing.Rule] = ()
    unused: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    wide: frozenset[str] = frozenset()
    layers_beyond: tuple[str, ...] = ()
    context: str = "max_position_embeddings"


SIZES = (
    entry("vocab_size", "vocab_size"),
    entry("hidden_size", "dim"),
    entry("num_hidden_layers", "num_layers"),
    entry("num_attention_heads", "num_heads"),
)
TIED = entry("tie_word_embeddings", "tie_head", False)
COMMON = (
    demanded("attention_bias", False),  # it would put one on the output too
    demanded("mlp_bias", False),
    demanded("pretraining_tp", 1),  # slices products in another order
    *SIZES,
    entry("rms_norm_eps", "norm_eps"),
    TIED,
)
DENSE = dense()
GROUPED = entry("num_key_value_heads", "num_kv_heads")
OPTIONAL_GROUPED = entry("num_key_value_heads", "num_kv_heads", None)
HEAD_DIM = entry("head_dim", "head_dim", None)
EXPLICIT_HEAD_DIM = entry("head_dim", "head_dim")
