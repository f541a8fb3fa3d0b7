"""Low-rank adapters: a wrapper of models, and what it adds to their layers."""

from models.lora.wrapper import LoRA

__all__ = ["LoRA"]
