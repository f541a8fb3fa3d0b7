"""Image classifiers: `[b h w c]` in, logits `[b classes]` out.

They read `images` alone, and `*b` is `[b]`. Neither has batch norm unless it is asked
for: `BatchNorm` makes an image's logits depend on the others of its ghost.
"""

from models.vision.batch_norm import BatchNorm
from models.vision.convnet import ConvNet
from models.vision.transformer import VisionTransformer

__all__ = ["BatchNorm", "ConvNet", "VisionTransformer"]
