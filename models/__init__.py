"""Models: a trunk, a head and named intermediates (see `models.base`)."""

from models.base import Model, TrunkOutput
from models.initializers import FanIn, Normal
from models.mlp import GatedMLP
from models.moe import MoE
from models.transformer import Transformer
from models.vision import ConvNet, VisionTransformer

__all__ = [
    "ConvNet",
    "FanIn",
    "GatedMLP",
    "MoE",
    "Model",
    "Normal",
    "Transformer",
    "TrunkOutput",
    "VisionTransformer",
]
