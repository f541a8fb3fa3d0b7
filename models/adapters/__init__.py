"""Matrices beside the kernels of a layer, added to their products."""
