"""Image classifiers: `[b h w c]` in, logits `[b classes]` out.

They read `images` alone, and `*b` is `[b]`. Neither has batch norm: its running
statistics would be state that a step writes, and its means would differ between batch
sizes, microbatches and devices.
"""

from models.vision.convnet import ConvNet
from models.vision.transformer import VisionTransformer

__all__ = ["ConvNet", "VisionTransformer"]
