"""Kernels on a grid: students that are trained for how they will be stored."""

from models.quantized.wrapper import Quantized

__all__ = ["Quantized"]
