"""Tensors of published files: what they are called, and what several hold as one."""
