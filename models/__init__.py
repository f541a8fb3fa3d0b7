"""Models: a trunk, a head, and named intermediates (see `models.base`)."""

from models.base import Model, Trunk
from models.initializers import FanIn, Normal
from models.mlp import GatedMlp
from models.moe import MoE
from models.transformer import Transformer
from models.vision import ConvNet, VisionTransformer

__all__ = [
    "ConvNet",
    "FanIn",
    "GatedMlp",
    "MoE",
    "Model",
    "Normal",
    "Transformer",
    "Trunk",
    "VisionTransformer",
]
