"""Models: a trunk, a head and named intermediates (see `models.base`)."""

import warnings
from typing import Any

from models.base import Model, TrunkOutput
from models.drafting import Drafted
from models.factored import LOST, VQHead
from models.heads import BiasedHead, SecondHead
from models.initializers import FanIn, Normal
from models.latent_attention import Latents
from models.layer_attention import LayerAttention
from models.lora import LoRA
from models.mlp import MLP, GatedMLP
from models.moe import MoE
from models.norm_removal import NormRemoval
from models.quantized import Quantized
from models.recommenders import MatrixFactorization
from models.routing.scores import Routing
from models.series import Imputer
from models.transformer import Transformer
from models.views import Ascent, Hidden, Views
from models.vision import BatchNorm, ConvNet, TwoTowers, VisionTransformer

__all__ = [
    "LOST",
    "MLP",
    "Ascent",
    "BatchNorm",
    "BiasedHead",
    "ConvNet",
    "Drafted",
    "FanIn",
    "GatedMLP",
    "Hidden",
    "Imputer",
    "Latents",
    "LayerAttention",
    "LoRA",
    "MatrixFactorization",
    "MoE",
    "Model",
    "NormRemoval",
    "Normal",
    "Quantized",
    "Routing",
    "SecondHead",
    "Transformer",
    "TrunkOutput",
    "TwoTowers",
    "VQHead",
    "Views",
    "VisionTransformer",
]

RENAMED = {"GatedMlp": "GatedMLP"}  # kept for one release


def _get(name: str) -> Any:
    if name not in RENAMED:
        raise AttributeError(f"module 'models' has no attribute '{name}'")
    new = RENAMED[name]
    message = f"models.{name} is now models.{new}"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return globals()[new]


# Not a function of this name, so that type checkers still refuse unknown names.
globals()["__getattr__"] = _get
