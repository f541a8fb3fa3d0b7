"""Classifiers of images: `[b h w c]` in, one row of logits an image out.

Both read `images` alone and have `*b` = `[b]`. Neither has batch norm: its running
statistics would be state that a step writes, and its means would differ between batch
sizes, microbatches and devices.
"""

from models.vision.convnet import ConvNet
from models.vision.transformer import VisionTransformer

__all__ = ["ConvNet", "VisionTransformer"]
