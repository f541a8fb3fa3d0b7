"""Kernels of the layers: loops over blocks, which know no parameter."""
