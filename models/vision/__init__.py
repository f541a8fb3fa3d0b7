"""Image classifiers: `[b h w c]` in, logits `[b classes]` out.

They read `images` alone, `TwoTowers` texts too, and `*b` is `[b]`. None has batch norm
unless it is asked for: `BatchNorm` makes an image's logits depend on the others of its
ghost.
"""

from models.vision.batch_norm import BatchNorm
from models.vision.convnet import ConvNet
from models.vision.transformer import VisionTransformer
from models.vision.two_towers import TwoTowers

__all__ = ["BatchNorm", "ConvNet", "TwoTowers", "VisionTransformer"]
