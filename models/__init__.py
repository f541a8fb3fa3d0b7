"""Models: a trunk, a head, and named intermediates (see `models.base`)."""

from models.base import Model, Trunk
from models.mlp import GatedMlp
from models.transformer import Transformer

__all__ = ["GatedMlp", "Model", "Transformer", "Trunk"]
